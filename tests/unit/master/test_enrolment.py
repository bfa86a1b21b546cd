# SPDX-License-Identifier: BSD-3-Clause
"""Join tokens and who joins with them: uses, ends, names, machines, and keys that are taken back."""

from __future__ import annotations

import re
import threading
from datetime import timedelta

import pytest
from fix_database import NOW, later
from sqlalchemy import select

from piwheels_node.client.pinning import split_token
from piwheels_node.core.builders import BuilderState
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import JoinRequest, Machine, TokenRequest
from piwheels_node.master.builders import enrolment
from piwheels_node.master.builders.enrolment import BadTokenError, JoinRefusedError
from piwheels_node.master.builders.keys import find_key
from piwheels_node.master.database.models import Builder, BuilderEvent, JoinToken

ONE, OTHER = "1" * 64, "2" * 64
PIN = "ab" * 32


class Desk:
    """Tokens are made, and machines join, each in a transaction."""

    def __init__(self, database):
        self.database = database

    def token(self, now=NOW, *, fingerprint=None, **wanted):
        request = TokenRequest(**wanted)
        return self.database.write(lambda session: enrolment.create_token(session, request, fingerprint, now))

    def join(self, token, name="pi-1", machine=ONE, key=None, now=NOW):
        request = JoinRequest(token=token, name=name, machine=Machine(fingerprint=machine), key=key)
        return self.database.write(lambda session: enrolment.join(session, request, now))

    def tokens(self):
        with self.database.read() as session:
            return enrolment.tokens(session)

    def change(self, name, how, now=NOW):
        return self.database.write(
            lambda session: how(session, session.scalar(select(Builder).where(Builder.name == name)), now)
        )

    def opens(self, key):
        with self.database.read() as session:
            caller = find_key(session, key)
            return caller and session.get_one(Builder, caller.builder_id).name

    def events(self, name):
        with self.database.read() as session:
            of = select(Builder.id).where(Builder.name == name).scalar_subquery()
            rows = session.scalars(
                select(BuilderEvent).where(BuilderEvent.builder_id == of).order_by(BuilderEvent.id)
            )
            return [row.kind for row in rows]


@pytest.fixture
def desk(database):
    return Desk(database)


def test_a_token_is_shown_once_and_stored_as_a_hash_only(desk):
    made = desk.token(uses=2, note="class 7b")

    (listed,) = desk.tokens()
    assert listed.token is None
    assert (listed.uses_left, listed.note, listed.revoked) == (2, "class 7b", False)
    with desk.database.read() as session:
        assert made.token not in str(session.scalar(select(JoinToken)).__dict__)


def test_a_token_names_the_certificate_where_it_must_be_pinned(desk):
    assert split_token(desk.token(fingerprint=PIN).token)[1] == PIN
    assert split_token(desk.token().token)[1] is None


def test_a_secret_has_128_bits_or_more_no_two_are_the_same_and_none_looks_like_an_option(desk):
    made = {desk.token().token for _ in range(20)}

    assert len(made) == 20
    assert all(re.fullmatch(r"[0-9a-f]{32,}", one) for one in made)


def test_who_joins_gets_a_key_that_opens_the_api_as_that_builder(desk):
    answer = desk.join(desk.token().token)

    assert answer.name == desk.opens(answer.key) == "pi-1"
    assert answer.state is BuilderState.ACTIVE
    assert desk.events("pi-1") == ["joined"]


def test_the_fingerprint_of_the_certificate_may_be_left_on_the_token(desk):
    assert desk.join(desk.token(fingerprint=PIN).token).key


def test_a_token_that_needs_approval_makes_a_pending_builder_that_a_person_approves(desk):
    assert desk.join(desk.token(needs_approval=True).token).state is BuilderState.PENDING

    desk.change("pi-1", enrolment.approve)
    desk.change("pi-1", enrolment.approve)

    with desk.database.read() as session:
        builder = session.scalar(select(Builder))
        assert (builder.state, builder.orders) == (BuilderState.ACTIVE, 1)
    assert desk.events("pi-1") == ["joined", "approved"]


def test_a_used_up_token_is_refused(desk):
    token = desk.token(uses=1).token
    desk.join(token)

    with pytest.raises(BadTokenError, match="used up"):
        desk.join(token, "pi-2", OTHER)


def test_a_token_is_worth_nothing_from_its_end_on(desk):
    token = desk.token(lasts_s=60).token

    with pytest.raises(BadTokenError, match="expired"):
        desk.join(token, now=later(60))
    assert desk.join(token, now=later(59.9)).key


def test_a_revoked_token_is_refused_and_who_has_joined_stays(desk):
    made = desk.token(uses=2)
    key = desk.join(made.token).key

    assert desk.database.write(lambda session: enrolment.revoke_token(session, made.token_id, NOW))

    with pytest.raises(BadTokenError, match="revoked"):
        desk.join(made.token, "pi-2", OTHER)
    assert desk.opens(key) == "pi-1"
    assert not desk.database.write(lambda session: enrolment.revoke_token(session, 999, NOW))


@pytest.mark.parametrize("guess", ["x" * 32, "x" * 16, "'; drop table join_token; --"])
def test_a_token_that_was_never_made_is_refused(desk, guess):
    desk.token()

    with pytest.raises(BadTokenError, match="does not know"):
        desk.join(guess)


def test_thirty_uses_are_thirty_machines_however_many_come_at_once(desk):
    token = desk.token(uses=30).token
    joined, refused = [], []

    def machine(number):
        try:
            joined.append(desk.join(token, f"pi-{number}", f"{number:064x}").key)
        except BadTokenError:
            refused.append(number)

    threads = [threading.Thread(target=machine, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(set(joined)), len(refused)) == (30, 10)
    assert desk.tokens()[0].uses_left == 0


def test_joining_again_with_the_key_changes_nothing_and_needs_no_use(desk):
    token = desk.token(uses=1).token
    first = desk.join(token)

    again = desk.join(token, key=first.key, now=later(10**6))

    assert again == first
    assert desk.opens(first.key) == "pi-1"
    assert desk.events("pi-1") == ["joined"]


def test_joining_again_with_another_name_renames_the_builder(desk):
    first = desk.join(desk.token().token)

    again = desk.join("no-token-is-needed", "pi-new", key=first.key)

    assert (again.name, again.key) == ("pi-new", first.key)
    assert desk.opens(first.key) == "pi-new"


def test_a_machine_that_has_lost_its_key_gets_another_and_the_old_one_is_void(desk):
    token = desk.token(uses=2).token
    first = desk.join(token)

    second = desk.join(token)

    assert second.name == "pi-1"
    assert desk.opens(first.key) is None
    assert desk.opens(second.key) == "pi-1"
    assert desk.tokens()[0].uses_left == 0


def test_a_name_belongs_to_one_machine_and_no_use_is_spent_on_the_refusal(desk):
    token = desk.token(uses=2).token
    desk.join(token)

    with pytest.raises(JoinRefusedError, match="another machine has this name") as caught:
        desk.join(token, "pi-1", OTHER)

    assert "--name" in str(caught.value)
    assert desk.tokens()[0].uses_left == 1


def test_a_clone_with_the_key_needs_a_token_and_a_name_of_its_own(desk):
    token = desk.token(uses=2).token
    key = desk.join(token).key

    with pytest.raises(JoinRefusedError, match="another machine"):
        desk.join(token, "pi-1", OTHER, key=key)
    clone = desk.join(token, "pi-2", OTHER, key=key)

    assert clone.key != key
    assert (desk.opens(key), desk.opens(clone.key)) == ("pi-1", "pi-2")


def test_two_builders_may_be_on_one_machine(desk):
    token = desk.token(uses=2).token

    assert desk.join(token, "pi-a").key != desk.join(token, "pi-b").key


def test_renaming_to_a_name_that_is_taken_is_refused(desk):
    token = desk.token(uses=2).token
    key = desk.join(token).key
    desk.join(token, "pi-2", OTHER)

    with pytest.raises(JoinRefusedError, match="another machine has this name"):
        desk.join(token, "pi-2", key=key)
    assert desk.opens(key) == "pi-1"


def test_a_revoked_builder_is_out_until_a_person_approves_it(desk):
    token = desk.token(uses=5).token
    key = desk.join(token).key
    desk.change("pi-1", enrolment.revoke)

    assert desk.opens(key) is None
    for name in ("pi-1", "pi-2"):
        with pytest.raises(JoinRefusedError, match="was revoked"):
            desk.join(token, name, key=key)

    desk.change("pi-1", enrolment.approve)
    assert desk.opens(key) is None
    assert desk.opens(desk.join(token).key) == "pi-1"
    assert desk.events("pi-1") == ["joined", "revoked", "approved", "joined"]


def test_a_revoked_builders_jobs_are_ready_at_once_and_not_counted_as_lost(tables):
    desk = Desk(tables.database)
    desk.join(desk.token().token)
    with tables.database.read() as session:
        builder_id = session.scalar(select(Builder.id).where(Builder.name == "pi-1"))
    mine, others = tables.add_job("mine"), tables.add_job("others")
    assert tables.claim(builder_id=builder_id).id == mine
    assert tables.claim().id == others
    announced = []
    tables.database.subscribe(announced.append)

    assert desk.change("pi-1", enrolment.revoke, later(1)) == [mine]

    job = tables.job(mine)
    assert (job.state, job.attempts, job.losses, job.lease_token) == (JobState.READY, 0, 0, None)
    assert tables.job(others).state is JobState.LEASED
    assert tables.events(mine)[-1] == "handed-back"
    assert f"orders:{builder_id}" in announced


def test_revoking_twice_is_one_event(desk):
    desk.join(desk.token().token)

    desk.change("pi-1", enrolment.revoke)
    desk.change("pi-1", enrolment.revoke)

    assert desk.events("pi-1") == ["joined", "revoked"]


def test_a_machine_is_told_from_another_also_where_the_same_name_joins_twice_at_once(desk):
    token = desk.token(uses=10).token
    outcome = []

    def machine(number):
        try:
            desk.join(token, "pi-1", f"{number:064x}")
            outcome.append("joined")
        except JoinRefusedError:
            outcome.append("refused")

    threads = [threading.Thread(target=machine, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcome) == ["joined"] + ["refused"] * 7
    assert desk.tokens()[0].uses_left == 9


def test_tokens_are_listed_newest_first(desk):
    first, second = desk.token(), desk.token(now=NOW + timedelta(hours=1))

    assert [one.token_id for one in desk.tokens()] == [second.token_id, first.token_id]
