/* The dashboard keeps itself fresh without moving under the reader's eyes, counts leases down
 * between two refreshes, and copies commands. */
(() => {
    "use strict";

    const REFRESH_EVERY = 5000;
    const LEASE = "[data-wd-expires-in]";
    const LIST = "[data-wd-list]";
    const FOCUSABLE = "a[href], summary, button, [tabindex]";

    const board = () => document.getElementById("watchdog-board");

    /** What a part says, apart from seconds counting down and what the reader has opened. */
    function face(part) {
        const copy = part.cloneNode(true);
        copy.querySelectorAll("details").forEach((details) => details.removeAttribute("open"));
        for (const lease of copy.querySelectorAll(LEASE)) {
            lease.removeAttribute("data-wd-expires-in");
            lease.textContent = "";
        }
        return copy.outerHTML;
    }

    const listIn = (part) => (part.matches(LIST) ? part : part.querySelector(LIST));

    /** Bring one part up to date; what the reader opened stays open, his focus stays his. */
    function update(old, fresh) {
        const [oldList, freshList] = [listIn(old), listIn(fresh)];
        if (oldList && freshList) {
            merge(oldList, freshList);
            return old;
        }
        if (face(old) === face(fresh)) {
            const leases = fresh.querySelectorAll(LEASE);
            old.querySelectorAll(LEASE).forEach((lease, place) => {
                lease.dataset.wdExpiresIn = leases[place].dataset.wdExpiresIn;
            });
            ready(old);
            return old;
        }
        const opened = [...old.querySelectorAll("details")].map((details) => details.open);
        fresh.querySelectorAll("details").forEach((details, place) => {
            details.open = Boolean(opened[place]);
        });
        const focused = [...old.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
        old.replaceWith(fresh);
        ready(fresh);
        fresh.querySelectorAll(FOCUSABLE)[focused]?.focus({ preventScroll: true });
        return fresh;
    }

    /** Children are told apart by their data-key: updated, put in the new order, added, removed. */
    function merge(current, fresh) {
        const old = new Map([...current.children].map((part) => [part.dataset.key, part]));
        let place = current.firstElementChild;
        for (const part of [...fresh.children]) {
            let kept = old.get(part.dataset.key);
            if (kept) {
                old.delete(part.dataset.key);
                kept = update(kept, part);
            } else {
                kept = part;
                ready(part);
            }
            // Moving an element takes its focus away, so what holds it is moved around.
            if (place?.isConnected === false) {
                place = kept;
            }
            if (kept !== place && !kept.contains(document.activeElement)) {
                current.insertBefore(kept, place);
            }
            place = kept.nextElementSibling;
        }
        old.forEach((part) => part.remove());
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
                merge(board(), fresh);
                board().classList.remove("wd-old");
            }
        } catch {
            // The badge says that the server is out of reach; the board only stops looking alive.
            board().classList.add("wd-old");
        }
    }

    function ready(root) {
        for (const lease of root.querySelectorAll(LEASE)) {
            const left = Number.parseFloat(lease.dataset.wdExpiresIn);
            if (Number.isFinite(left)) {
                lease.wdEnds = performance.now() + left * 1000;
            }
        }
        for (const button of root.querySelectorAll("[data-wd-copy]")) {
            button.hidden = !navigator.clipboard;
            if (button.wdReady) {
                continue;
            }
            button.wdReady = true;
            button.addEventListener("click", async () => {
                await navigator.clipboard.writeText(button.previousElementSibling.textContent);
                button.textContent = "Copied";
                setTimeout(() => { button.textContent = "Copy"; }, 2000);
            });
        }
    }

    function countDown() {
        for (const lease of board()?.querySelectorAll(LEASE) || []) {
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
