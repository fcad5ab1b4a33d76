/* The dashboard keeps itself fresh without moving under the reader's eyes, counts leases down
 * between two refreshes, and copies commands. */
(() => {
    "use strict";

    const REFRESH_EVERY = 5000;

    const board = () => document.getElementById("watchdog-board");

    /** Swap only what changed, and nothing that holds the focus or was opened by the reader. */
    function take(fresh) {
        const current = board();
        const keys = (root) => [...root.querySelectorAll("[data-key]")].map((e) => e.dataset.key);
        if (keys(current).join("\n") !== keys(fresh).join("\n")) {
            if (!current.contains(document.activeElement)) {
                current.replaceChildren(...fresh.childNodes);
                ready(current);
            }
            return;
        }
        for (const part of fresh.querySelectorAll("[data-key]")) {
            const old = current.querySelector(`[data-key="${CSS.escape(part.dataset.key)}"]`);
            if (old.outerHTML === part.outerHTML || old.contains(document.activeElement)) {
                continue;
            }
            const opened = [...old.querySelectorAll("details")].map((details) => details.open);
            part.querySelectorAll("details").forEach((details, place) => {
                details.open = Boolean(opened[place]);
            });
            old.replaceWith(part);
            ready(part);
        }
    }

    async function refresh() {
        if (document.visibilityState !== "visible" || !board()) {
            return;
        }
        try {
            const response = await fetch(board().dataset.refreshUrl, {
                cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(4000),
            });
            const page = new DOMParser().parseFromString(await response.text(), "text/html");
            const fresh = page.getElementById("watchdog-board");
            if (response.ok && fresh) {
                take(fresh);
                board().classList.remove("wd-old");
            }
        } catch {
            // The badge says that the server is out of reach; the board only stops looking alive.
            board().classList.add("wd-old");
        }
    }

    function ready(root) {
        for (const lease of root.querySelectorAll("[data-wd-expires-in]")) {
            const left = Number.parseFloat(lease.dataset.wdExpiresIn);
            if (Number.isFinite(left)) {
                lease.wdEnds = performance.now() + left * 1000;
            }
        }
        for (const button of root.querySelectorAll("[data-wd-copy]")) {
            button.hidden = !navigator.clipboard;
            button.addEventListener("click", async () => {
                await navigator.clipboard.writeText(button.previousElementSibling.textContent);
                button.textContent = "Copied";
                setTimeout(() => { button.textContent = "Copy"; }, 2000);
            });
        }
    }

    function countDown() {
        for (const lease of board()?.querySelectorAll("[data-wd-expires-in]") || []) {
            if (lease.wdEnds !== undefined) {
                const left = Math.max(0, Math.floor((lease.wdEnds - performance.now()) / 1000));
                lease.textContent = left ? `${left} s left` : "renewal overdue";
            }
        }
    }

    document.addEventListener("DOMContentLoaded", () => {
        if (board()) {
            ready(board());
            setInterval(countDown, 1000);
            setInterval(refresh, REFRESH_EVERY);
            document.addEventListener("visibilitychange", refresh);
        }
    });
})();
