"""What is seen: plotly builders, the theme and explore()."""
