/* Refreshes the page Accounts: only what has changed is replaced, so that focus, selection and scrolling stay. */
(function () {
    "use strict";

    var stand = document.getElementById("courier-stand");
    var every = stand ? Number(stand.dataset.refreshS) * 1000 : 0;
    var dot = document.getElementById("courier-dot");
    var told = document.getElementById("courier-refreshed");

    function sameKind(one, other) {
        if (one.nodeName !== other.nodeName || one.nodeType !== Node.ELEMENT_NODE) {
            return one.nodeName === other.nodeName;
        }
        return one.id === other.id &&
            one.getAttribute("class") === other.getAttribute("class");
    }

    function patch(old, fresh) {
        if (old.nodeType !== Node.ELEMENT_NODE) {
            if (old.nodeValue !== fresh.nodeValue) {
                old.nodeValue = fresh.nodeValue;
            }
            return;
        }
        Array.from(old.attributes).forEach(function (each) {
            if (!fresh.hasAttribute(each.name)) {
                old.removeAttribute(each.name);
            }
        });
        Array.from(fresh.attributes).forEach(function (each) {
            if (old.getAttribute(each.name) !== each.value) {
                old.setAttribute(each.name, each.value);
            }
        });
        patchChildren(old, fresh);
    }

    /* Children are the same in order: what is new comes in between, what is gone goes. */
    function patchChildren(old, fresh) {
        var at = old.firstChild;
        Array.from(fresh.childNodes).forEach(function (each) {
            var found = at;
            while (found && !sameKind(found, each)) {
                // Only an element is looked for further on: text between elements is all alike.
                found = each.nodeType === Node.ELEMENT_NODE ? found.nextSibling : null;
            }
            if (!found) {
                old.insertBefore(each, at);
                return;
            }
            while (at !== found) {
                at = at.nextSibling;
                at.previousSibling.remove();
            }
            patch(found, each);
            at = found.nextSibling;
        });
        while (at) {
            var gone = at;
            at = at.nextSibling;
            gone.remove();
        }
    }

    function say(well, text) {
        dot.className = "status-dot " + (well ? "status-dot-live" : "status-dot-error");
        told.textContent = text;
    }

    function refresh() {
        if (document.hidden) {
            return window.setTimeout(refresh, every);
        }
        window.fetch(new URL(stand.dataset.url, window.location.origin), {credentials: "same-origin", cache: "no-store"}).then(function (answer) {
            if (!answer.ok && answer.status !== 503) {
                throw new Error(String(answer.status));
            }
            return answer.text().then(function (text) {
                var fresh = document.createElement("template");
                fresh.innerHTML = text;
                patchChildren(stand, fresh.content);
                say(answer.ok, (answer.ok ? "As of " : "Redis does not answer; ") + new Date().toLocaleTimeString());
            });
        }).catch(function () {
            say(false, "Flower does not answer");
        }).then(function () {
            window.setTimeout(refresh, every);
        });
    }

    if (every) {
        refresh();
    }
}());
