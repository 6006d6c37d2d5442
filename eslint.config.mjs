// Rules for the book's own scripts, checked by `make lint` where node is present. No plugin: eslint alone reads this.
const browser = Object.fromEntries([
  "window", "document", "history", "URL", "atob", "structuredClone", "getComputedStyle", "requestAnimationFrame",
  "setTimeout", "clearTimeout", "setInterval", "clearInterval", "IntersectionObserver", "MutationObserver",
  "ResizeObserver", "CustomEvent", "Blob", "navigator", "Option",
  "self", "Response", "TransformStream", "CSS",
].map((name) => [name, "readonly"]));

export default [
  {ignores: ["**/_build/**", "book/_static/vendor/**", ".venv/**"]},
  {
    files: ["book/_static/**/*.js"],
    languageOptions: {ecmaVersion: 2023, sourceType: "script", globals: browser},
    linterOptions: {reportUnusedDisableDirectives: "error"},
    rules: {
      "no-undef": "error",
      "no-unused-vars": "error",
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": "error",
      "eqeqeq": "error",
      "curly": ["error", "multi-line"],
      "no-implicit-globals": "error",
      "no-eval": "error",
      "no-unreachable": "error",
      "no-dupe-keys": "error",
      "no-self-assign": "error",
      "no-constant-condition": "error",
      "no-floating-decimal": "error",
      "no-await-in-loop": "error",
      "no-unmodified-loop-condition": "error",
      "max-lines": ["error", 400],
    },
  },
];
