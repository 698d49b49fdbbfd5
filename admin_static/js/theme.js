/* Sets the colour theme before the first paint. A classic script on purpose: a module would run too late. */
(function () {
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  function apply() {
    const choice = root.dataset.theme;
    root.dataset.bsTheme = choice === 'light' || choice === 'dark' ? choice : dark.matches ? 'dark' : 'light';
    dispatchEvent(new Event('themechange'));
  }
  apply();
  dark.addEventListener('change', apply);
  addEventListener('themechoice', apply);
})();
