/* Refreshes the page Accounts: only what has changed is replaced, so that focus, selection and scrolling stay. */
(function () {
    "use strict";

    var stand = document.getElementById("courier-stand");
    var every = stand ? Number(stand.dataset.refreshS) * 1000 : 0;
    var dot = document.getElementById("courier-dot");
    var told = document.getElementById("courier-refreshed");

    function patch(old, fresh) {
        if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
            old.replaceWith(fresh);
            return;
        }
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

    function patchChildren(old, fresh) {
        var olds = Array.from(old.childNodes), news = Array.from(fresh.childNodes);
        olds.slice(news.length).forEach(function (each) { each.remove(); });
        news.forEach(function (each, place) {
            if (place < olds.length) {
                patch(olds[place], each);
            } else {
                old.appendChild(each);
            }
        });
    }

    function say(well, text) {
        dot.className = "status-dot " + (well ? "status-dot-live" : "status-dot-error");
        told.textContent = text;
    }

    function refresh() {
        if (document.hidden) {
            return window.setTimeout(refresh, every);
        }
        window.fetch(stand.dataset.url, {credentials: "same-origin", cache: "no-store"}).then(function (answer) {
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
