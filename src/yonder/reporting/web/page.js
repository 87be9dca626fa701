// The frame: theme, section marks, copy buttons.

const THEMES = ["auto", "light", "dark"];

function remembered() {
  try { return localStorage.getItem("yonder-theme") || "auto"; } catch { return "auto"; }
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme];
  byId("theme").dataset.theme = theme;
  try { localStorage.setItem("yonder-theme", theme); } catch { /* a page from disk may not remember */ }
  figures.forEach((figure) => figure.repaint());
}

function setUpTheme() {
  setTheme(THEMES.includes(remembered()) ? remembered() : "auto");
  byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(byId("theme").dataset.theme) + 1) % THEMES.length]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => figures.forEach((figure) => figure.repaint()));
}

function markSection() {
  const links = [...document.querySelectorAll("nav a")];
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => {
        if (link.hash === `#${entry.target.id}`) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watch.observe(section));
}

function setUpCopy() {
  document.querySelectorAll("button[data-copy]").forEach((button) => button.addEventListener("click", async () => {
    await copyText(byId(button.dataset.copy).textContent);
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  }));
}

setUpTheme();
setUpCopy();
markSection();
setUpCurves();
setUpRollouts();
setUpBeside();
