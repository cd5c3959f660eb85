// Follows the theme of Airflow's UI, which keeps it in the local storage that both share; runs before anything is drawn.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  }

  function apply() {
    const theme = chosen();
    const isDark = theme === "dark" || (theme !== "light" && system.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  }

  apply();
  addEventListener("storage", apply);
  system.addEventListener("change", apply);
})();
