"""What is seen: plotly builders, the theme and explore(). Importing it is light: plotly comes with the first figure."""
