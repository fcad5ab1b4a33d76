/* The theme shows a page only when it is ready, which is too late for `autofocus`.
 * And names for what the theme's and Django's widgets leave unnamed to a screen reader. They make their
 * elements when the page has loaded, so this comes a moment later. */
(() => {
    "use strict";

    function nameWidgets() {
        for (const hint of document.querySelectorAll(".help-tooltip[aria-label]:not([role])")) {
            hint.setAttribute("role", "img");
        }
        for (const container of document.querySelectorAll(".select2-container")) {
            const select = container.previousElementSibling;
            const label = select?.labels?.[0]?.textContent.trim();
            const boxes = container.querySelectorAll("[role=combobox], [role=textbox]");
            boxes.forEach((box) => label && box.setAttribute("aria-label", label));
        }
    }

    function focusFirst() {
        if (document.activeElement === document.body) {
            document.querySelector(".wd-sheet [autofocus]")?.focus();
        }
    }

    window.addEventListener("load", () => setTimeout(() => {
        nameWidgets();
        focusFirst();
    }));
})();
