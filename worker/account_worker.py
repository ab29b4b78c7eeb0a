"""The work for one account: accept what is in its inbox, deliver what is due, see to the rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from ..config.connections import Client
from ..config.settings import Settings
from ..state.account import AccountHealth, Needs
from ..state.claims import Limits
from ..state.inbox import Inbox
from ..state.keys import Keys
from ..state.mailboxes import Mailboxes
from ..state.outcomes import Outcomes
from .acceptance import Acceptance
from .chartmogul import ChartMogul, Transport
from .deliveries import Deliveries
from .notifier import Asking, Notifier
from .policy import Policy
from .request_trace import RequestTrace
from .stint import Done
from .verdicts import is_pong

log = logging.getLogger(__name__)

LEASE_MARGIN_S = 5
"""What a lease lasts longer than a request, and a lost one after it: time to settle."""
HOLDS = ("paused", "circuit open")
"""Why a stint ends that finds the account held back as a whole."""
TICK_S = 1.0
"""The longest pause between two looks at what no message asks for."""


class AccountWorker:
    """Everything that a worker does for one account. May be used by several threads.

    Args:
        account: its name.
        settings: with the account's API key.
        client: a connection with `decode_responses`.
        notifier: how it asks for further work, and reports to Flower.
        email_hash: what stands for an email in the log.
        line: by which requests go to ChartMogul, in place of connections to the settings' URL.
        stint_s: seconds after which a stint asks for no further delivery, in place of `STINT_S`.
        asking: decides how often a tick asks for work; each time that some is due, unless given.

    Raises:
        SettingsError: the account has no API key.
    """

    def __init__(
        self,
        account: str,
        settings: Settings,
        *,
        client: Client,
        notifier: Notifier,
        email_hash: Callable[[str], str],
        line: Transport | None = None,
        stint_s: float | None = None,
        asking: Asking | None = None,
    ) -> None:
        self.account = account
        keys = Keys(account)
        api_key = settings.api_key(account)
        kept = {"retention_s": settings.retention_s, "keep_s": settings.outcome_retention_s}
        mailboxes = Mailboxes(
            client,
            keys,
            limits=Limits(
                rate_limit=settings.rate_limit,
                max_parallel=settings.max_parallel,
                # Longer than a request (promise 3), and than a lost one can still act after it.
                lease_s=2 * settings.timeout_s + LEASE_MARGIN_S,
                bulk_share=settings.bulk_share,
                max_attributes=settings.max_attributes,
                max_bytes=settings.max_request_bytes,
            ),
            strict_types=settings.strict_types,
            **kept,
        )
        outcomes = Outcomes(client, keys)
        self.health = AccountHealth(
            client,
            keys,
            rate_limit=settings.rate_limit,
            max_parallel=settings.max_parallel,
            probe_delays_s=settings.probe_delays_s,
        )
        self._chartmogul = ChartMogul(
            settings.api_url,
            api_key,
            timeout_s=settings.timeout_s,
            with_associated_emails=settings.with_associated_emails,
            line=line,
        )
        self._notifier = notifier
        self.asking = asking
        self._acceptance = Acceptance(
            account,
            inbox=Inbox(
                client, keys, retention_s=settings.retention_s, keep_s=settings.outcome_retention_s
            ),
            mailboxes=mailboxes,
            outcomes=outcomes,
            notifier=notifier,
            bulk_share=settings.bulk_share,
        )
        self._deliveries = Deliveries(
            account,
            mailboxes=mailboxes,
            outcomes=outcomes,
            acceptance=self._acceptance,
            chartmogul=self._chartmogul,
            notifier=notifier,
            policy=Policy.of(settings),
            email_hash=email_hash,
            trace=RequestTrace(account, settings.api_url),
            api_key=api_key,
            probe_delays_s=settings.probe_delays_s,
            stint_s=stint_s,
        )

    def accept(self, stopping: threading.Event) -> Done:
        """Accept what is in the inbox, then deliver what is due."""
        accepted = self._acceptance.accept()
        done = self.deliver(stopping)
        return replace(done, text=f"{accepted} accepted · {done.text}")

    def deliver(self, stopping: threading.Event) -> Done:
        """Deliver what is due, for some seconds."""
        stint = self._deliveries.run(stopping)
        if stint.why in HOLDS:
            stint.held_by = self.health.held_by() or ""
        return Done(text=stint.summary(), in_vain=stint.in_vain)

    def tick(self) -> float:
        """See to what no message asks for. Returns seconds until the next look."""
        needs: Needs = self.health.look(TICK_S)
        if self.asking is not None and not (needs.accept or needs.deliver):
            self.asking.answered()
        elif self.asking is not None and not self.asking.may_ask():
            pass
        elif needs.accept:
            self._notifier.accept(self.account)
        elif needs.deliver:
            self._notifier.deliver(self.account)
        if needs.probe and self.health.probe_is_due():
            # Not here: a ping that hangs must not keep the other accounts waiting.
            threading.Thread(target=self._probe, name=f"ping-{self.account}", daemon=True).start()
        return max(needs.soonest_s, 0.02)

    def _probe(self) -> None:
        """Ask whether a paused account works again, and go on if it does."""
        if is_pong(self._chartmogul.ping()) and self.health.resume_after_probe():
            log.warning("account %s: ChartMogul answers again; going on", self.account)
