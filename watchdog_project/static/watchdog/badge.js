/* Keeps the header's badge true: asks the server every 5 s, and says so when it cannot.
 *
 * Whether the server is reachable is judged here, by this browser's own clocks only. A snapshot's
 * age is what the server said it was when it answered, plus the time since its answer was received:
 * the two machines' clocks are never compared.
 */
(() => {
    "use strict";

    const POLL_EVERY = 5000;
    const POLL_AGAIN_AFTER_FAILURE = 2000;
    const POLL_TIMEOUT = 4000;
    const OLD_AFTER = 15000;
    const FAILURES_TO_UNREACHABLE = 2;
    const SHOWN_MESSAGES = 8;
    const LOOK_OF = {
        VIOLATION: "violation", STALE: "stale", UNKNOWN: "unknown", OK: "ok", IDLE: "idle",
    };

    /** Milliseconds since it was made. Suspended machines stop one clock, corrections move the
     *  other: whichever says that more time has passed is believed. */
    class Stopwatch {
        constructor() {
            this.steady = performance.now();
            this.wall = Date.now();
        }

        get elapsed() {
            return Math.max(performance.now() - this.steady, Date.now() - this.wall);
        }
    }

    /** What is wrong, in words; the server writes the same into the page. */
    function messagesOf(snapshot) {
        const messages = [];
        for (const row of snapshot.markets || []) {
            for (const violation of row.identity.violations) {
                messages.push(`${row.market || "No market"}: ${violation.message}`);
            }
        }
        for (const part of snapshot.unreadable || []) {
            messages.push(`Could not be read: ${part}`);
        }
        if (snapshot.sweep?.overdue && snapshot.markets?.length) {
            messages.push("The identity sweep is overdue: are the worker and beat running?");
        }
        for (const name of snapshot.overdue_tasks || []) {
            if (name !== "sweep identity") {
                messages.push(`The periodic task ${name} is overdue: Periodic work says since when.`);
            }
        }
        return messages;
    }

    /** Of which day the logs are, where only old logs say what is wrong. */
    function labelOf(snapshot) {
        const broken = (snapshot.markets || [])
            .map((row) => row.identity)
            .filter((identity) => identity.status === "VIOLATION");
        if (!broken.every((identity) => identity.historical)) {
            return "";
        }
        return broken.map((identity) => identity.label || "").sort().pop() || "";
    }

    /** How old the server itself said its snapshot was when it answered, in milliseconds. */
    function ageAtReceipt(response, snapshot) {
        const behindProxy = Number(response.headers.get("Age") || 0) * 1000;
        const answered = Date.parse(response.headers.get("Date") || "");
        const taken = Date.parse(snapshot.snapshot_utc || "");
        const own = Number.isFinite(answered - taken) ? answered - taken : 0;
        return Math.max(0, own, behindProxy);
    }

    class Badge {
        constructor(root) {
            this.root = root;
            this.killSwitch = document.getElementById("watchdog-kill-switch");
            this.looks = new Map();
            for (const template of root.querySelectorAll("template[data-look]")) {
                this.looks.set(template.dataset.look, template.dataset);
            }
            this.parts = {};
            for (const part of root.querySelectorAll("[data-wd]")) {
                this.parts[part.dataset.wd] = part;
            }
            this.title = document.title.trim();
            if (this.title.startsWith(root.dataset.titleSign)) {
                this.title = this.title.slice(root.dataset.titleSign.length).replace(/^[\s·]+/, "");
            }
            this.announced = root.dataset.look;
        }

        get look() {
            return this.root.dataset.look;
        }

        show(look, { time, messages, meaning, label = "" }) {
            const { label: name, sign, meaning: usual } = this.looks.get(look);
            const changed = look !== this.look;
            this.root.dataset.look = look;
            this.set("label", name);
            this.set("label-of-logs", label && ` · ${label}`);
            this.set("meaning", meaning || usual);
            if (time) {
                this.set("time", time);
            }
            if (messages) {
                this.list(messages);
            }
            if (changed) {
                document.title = `${sign} · ${this.title}`;
                this.icon(look);
            }
        }

        set(part, text) {
            const element = this.parts[part];
            if (element && element.textContent !== text) {
                element.textContent = text;
            }
        }

        list(messages) {
            const list = this.parts.messages;
            if (!list) {
                return;
            }
            const items = messages.slice(0, SHOWN_MESSAGES).map((message) => {
                const item = document.createElement("li");
                item.textContent = message;
                return item;
            });
            if (messages.length > SHOWN_MESSAGES) {
                const more = document.createElement("li");
                more.className = "wd-more";
                more.textContent = `and ${messages.length - SHOWN_MESSAGES} more`;
                items.push(more);
            }
            list.replaceChildren(...items);
        }

        /** `active` is true, false, or null where it cannot be read, which counts as engaged. */
        switched(active) {
            const chip = this.killSwitch;
            if (!chip) {
                return;
            }
            const engaged = active !== false;
            const { switchesUrl, stopUrl } = chip.dataset;
            chip.dataset.engaged = engaged ? "yes" : "no";
            chip.hidden = !engaged && !stopUrl;
            chip.href = engaged || !stopUrl ? switchesUrl : stopUrl;
            chip.querySelector('[data-wd="kill-switch"]').textContent =
                active === null ? "UNREADABLE" : "ENGAGED";
        }

        /** The tab's icon, drawn from the page itself: a dead server could not send one. */
        icon(look) {
            const drawing = this.root.querySelector(`.wd-icon[data-look="${look}"]`);
            const link = document.querySelector('link[rel="icon"]');
            if (!drawing || !link) {
                return;
            }
            const colours = {
                ok: "#15803d", violation: "#c81e2c", stale: "#b45309", unreachable: "#111827",
            };
            const colour = colours[look] || "#64748b";
            const copy = drawing.cloneNode(true);
            copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
            copy.querySelector(".wd-icon-ground").setAttribute("fill", colour);
            const glyph = copy.querySelector(".wd-icon-glyph");
            for (const [name, value] of [["fill", "none"], ["stroke", "#fff"], ["stroke-width", "2.2"],
                ["stroke-linecap", "round"], ["stroke-linejoin", "round"]]) {
                glyph.setAttribute(name, value);
            }
            link.href = `data:image/svg+xml,${encodeURIComponent(copy.outerHTML)}`;
        }

        /** Tell screen readers, politely and only of a change that lasted. */
        announce() {
            if (this.announced !== this.look) {
                this.announced = this.look;
                this.set("live", this.looks.get(this.look).label);
            }
        }
    }

    class Poller {
        constructor(badge) {
            this.badge = badge;
            this.url = badge.root.dataset.pollUrl;
            this.read = badge.root.dataset.pollKind === "status" ? this.readStatus : this.readPage;
            this.etag = null;
            this.failures = 0;
            this.heard = new Stopwatch();
            this.ageThen = 0;
            this.timer = null;
            this.asking = null;
            this.last = null;
        }

        get age() {
            return this.ageThen + this.heard.elapsed;
        }

        start() {
            this.next(POLL_EVERY);
            setInterval(() => this.judge(), 1000);
            document.addEventListener("visibilitychange", () => {
                if (document.visibilityState === "visible") {
                    this.now();
                }
            });
            window.addEventListener("pageshow", (event) => event.persisted && this.now());
            window.addEventListener("online", () => this.now());
            window.addEventListener("offline", () => this.now());
        }

        now() {
            this.judge();
            this.next(0);
        }

        next(wait) {
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.poll(), wait);
        }

        async poll() {
            if (this.asking) {
                return;
            }
            this.asking = new AbortController();
            const limit = setTimeout(() => this.asking.abort(), POLL_TIMEOUT);
            let answered = false;
            try {
                answered = await this.read(this.asking.signal);
            } catch {
                answered = false;
            } finally {
                clearTimeout(limit);
                this.asking = null;
            }
            this.failures = answered ? 0 : this.failures + 1;
            this.judge();
            this.badge.announce();
            this.next(answered ? POLL_EVERY : POLL_AGAIN_AFTER_FAILURE);
        }

        /** True when the server told its status. */
        async readStatus(signal) {
            const headers = { Accept: "application/json" };
            if (this.etag) {
                headers["If-None-Match"] = this.etag;
            }
            const response = await fetch(this.url, {
                headers, signal, cache: "no-store", credentials: "same-origin",
            });
            if (response.status === 304) {
                this.accept(response, this.last);
                return true;
            }
            if (response.status === 401 || response.status === 403) {
                this.etag = null;
                this.last = null;
                this.hear(0);
                this.badge.show("unknown", {
                    messages: [], meaning: "You are no longer signed in. Sign in to see the status.",
                });
                return true;
            }
            if (!response.ok) {
                return false;
            }
            const snapshot = await response.json();
            this.etag = response.headers.get("ETag");
            this.accept(response, snapshot);
            return true;
        }

        accept(response, snapshot) {
            const unchanged = snapshot === this.last;
            this.last = snapshot;
            this.hear(unchanged ? 0 : ageAtReceipt(response, snapshot));
            if (this.age > OLD_AFTER) {
                return;
            }
            this.badge.show(LOOK_OF[snapshot.status] || "unknown", {
                time: clock(unchanged ? response.headers.get("Date") : snapshot.snapshot_utc),
                messages: messagesOf(snapshot),
                label: labelOf(snapshot),
            });
            this.badge.switched(snapshot.kill_switch_active);
            document.dispatchEvent(new CustomEvent("watchdog:status", { detail: { unchanged } }));
        }

        /** The log-in page may know the state only, and gets it as it was got: with the page. */
        async readPage(signal) {
            const response = await fetch(this.url, {
                signal, cache: "no-store", credentials: "same-origin",
            });
            if (!response.ok) {
                return false;
            }
            const page = new DOMParser().parseFromString(await response.text(), "text/html");
            const fresh = page.getElementById("watchdog-badge");
            if (!fresh || !this.badge.looks.has(fresh.dataset.look)) {
                return false;
            }
            this.hear(0);
            this.badge.show(fresh.dataset.look, {
                time: fresh.querySelector('[data-wd="time"]').textContent,
            });
            return true;
        }

        hear(age) {
            this.heard = new Stopwatch();
            this.ageThen = age;
        }

        judge() {
            if (this.failures >= FAILURES_TO_UNREACHABLE || this.age > OLD_AFTER) {
                const seconds = Math.round(this.age / 1000);
                this.badge.show("unreachable", {
                    messages: [],
                    meaning: `Nothing heard from the server for ${seconds} s. Do not rely on what this page shows.`,
                });
            }
        }
    }

    const CHICAGO = new Intl.DateTimeFormat("en-US", {
        timeZone: "America/Chicago", hour: "2-digit", minute: "2-digit", second: "2-digit",
        hourCycle: "h23", timeZoneName: "short",
    });

    /** A server's time as the server writes it: 14:03:22 CDT. */
    function clock(text) {
        const time = new Date(text || "");
        if (Number.isNaN(time.getTime())) {
            return null;
        }
        return CHICAGO.format(time);
    }

    document.addEventListener("DOMContentLoaded", () => {
        const root = document.getElementById("watchdog-badge");
        if (root) {
            new Poller(new Badge(root)).start();
        }
    });
})();
