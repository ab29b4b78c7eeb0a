"""An application that writes jobs into the outbox until it is killed: `outbox_writer.py URL FIRST`.

Beside each job it writes the same number into a table of its own, in the same transaction.
"""

from __future__ import annotations

import itertools
import sys

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from attribute_courier.producers.sqlalchemy import add_attributes_in_outbox

EMAILS = 8

engine = create_engine(sys.argv[1])
for n in itertools.count(int(sys.argv[2])):
    with Session(engine) as session:
        email = f"{n % EMAILS}@load.example"
        add_attributes_in_outbox(session, email, {"n": n})
        session.execute(
            text("INSERT INTO truth (email, n) VALUES (:email, :n)"), {"email": email, "n": n}
        )
        if n % 7 == 0:
            session.rollback()
        else:
            session.commit()
