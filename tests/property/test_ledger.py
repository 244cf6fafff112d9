"""The ledger against a naive one of the same rules, on random histories; the fast loop against the exact one; bytes."""

from collections import Counter
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dompbus.ledger import (
    Account,
    AccountFilter,
    CreateAccountStatus,
    CreateTransferStatus,
    Ledger,
    QueryFilter,
    Transfer,
    machine,
)
from dompbus.ledger.commands import Operation, Refusal, decode_answer, encode_request
from dompbus.ledger.records import pack_accounts, pack_transfers
from tests.unit.ledger.histories import Histories
from tests.unit.ledger.naive_model import INT_MAX, NaiveLedger, fields

SECOND = 10**9


def mostly(usual, *rare):
    """The usual strategy four times in five, else one of the rare ones."""
    return st.integers(0, 9).flatmap(lambda n: usual if n < 8 else st.one_of(*rare))


def flag_sets(usual, width):
    """One of the usual combinations, rarely any bits at all; linked in a quarter of the cases."""
    base = mostly(st.sampled_from(usual), st.integers(0, (1 << width) * 2 - 1))
    return st.builds(lambda flags, n: flags | (n == 0), base, st.integers(0, 3))


small = st.integers(0, 2)
ids = mostly(st.integers(1, 14), st.sampled_from([0, INT_MAX]))
account_ids = mostly(st.integers(1, 6), st.sampled_from([0, INT_MAX, 99]))
amounts = mostly(st.integers(0, 30), st.sampled_from([INT_MAX, INT_MAX - 7, 2**127, 2**64]))
ledgers = mostly(st.just(1), st.integers(0, 2))
codes = mostly(st.just(1), st.integers(0, 2))
rarely_one = mostly(st.just(0), st.just(1))
brought_times = mostly(st.just(0), st.integers(1, 60), st.sampled_from([2**63 - 1, 2**63]))

accounts = st.builds(
    Account,
    id=account_ids,
    debits_pending=rarely_one,
    credits_posted=rarely_one,
    user_data_32=rarely_one,
    reserved=rarely_one,
    ledger=ledgers,
    code=codes,
    flags=flag_sets([0, 0, 2, 4, 8, 10], 6),
    timestamp=brought_times,
)
transfers = st.builds(
    Transfer,
    id=ids,
    debit_account_id=account_ids,
    credit_account_id=account_ids,
    amount=amounts,
    pending_id=rarely_one,
    user_data_128=rarely_one,
    timeout=mostly(st.just(0), st.just(1)),
    ledger=ledgers,
    code=codes,
    flags=flag_sets([0, 0, 0, 2, 2, 16, 32, 48, 66, 130, 194], 9),
    timestamp=brought_times,
)
resolutions = st.builds(
    Transfer,
    id=ids,
    pending_id=ids,
    amount=mostly(st.sampled_from([0, INT_MAX]), st.integers(1, 10)),
    debit_account_id=mostly(st.just(0), account_ids),
    user_data_64=rarely_one,
    code=mostly(st.just(0), codes),
    flags=flag_sets([4, 4, 8], 9),
)
holds = st.builds(
    Transfer,
    id=ids,
    debit_account_id=account_ids,
    credit_account_id=account_ids,
    amount=amounts,
    timeout=small,
    ledger=st.just(1),
    code=st.just(1),
    flags=flag_sets([2, 2, 2, 66, 130], 9),
)
plain = st.builds(
    Transfer,
    id=st.integers(1, 60),
    debit_account_id=account_ids,
    credit_account_id=account_ids,
    amount=amounts,
    ledger=ledgers,
    code=st.just(1),  # anything else would send the whole batch to the exact loop
    flags=st.sampled_from([0, 0, 1]),
)
limits = mostly(st.integers(1, 5), st.just(0), st.just(2**32 - 1))
bounds = mostly(st.just(0), st.integers(0, 40), st.integers(0, 4 * SECOND), st.just(2**63))
account_filters = st.builds(
    AccountFilter,
    account_id=account_ids,
    user_data_128=rarely_one,
    code=rarely_one,
    timestamp_min=bounds,
    timestamp_max=bounds,
    limit=limits,
    flags=mostly(st.sampled_from([1, 2, 3, 7]), st.integers(0, 8)),
)
query_filters = st.builds(
    QueryFilter,
    user_data_128=rarely_one,
    user_data_32=rarely_one,
    ledger=small,
    code=rarely_one,
    timestamp_min=bounds,
    timestamp_max=bounds,
    limit=limits,
    flags=mostly(st.sampled_from([0, 1]), st.just(2)),
)


class LedgerBesideModel(RuleBasedStateMachine):
    """Every command goes to both; results, records and balances must be equal after each."""

    def __init__(self):
        super().__init__()
        self.ledger, self.model, self.now = Ledger(), NaiveLedger(), 0
        opening = [Account(id=n, ledger=1, code=1, flags=(0, 0, 2, 4, 8, 0)[n - 1]) for n in range(1, 7)]
        self._create("create_accounts", opening, 0)

    def _create(self, method, events, pause):
        self.now += len(events) + pause
        got = getattr(self.ledger, method)(events, timestamp=self.now)
        assert got == getattr(self.model, method)(events, self.now)

    @rule(events=st.lists(accounts, max_size=4), pause=small)
    def create_accounts(self, events, pause):
        self._create("create_accounts", events, pause)

    @rule(
        events=st.lists(st.one_of(transfers, transfers, holds, resolutions), max_size=6),
        pause=st.sampled_from([0, 1, SECOND - 2, SECOND]),
    )
    def create_transfers(self, events, pause):
        self._create("create_transfers", events, pause)

    @rule(events=st.lists(plain, min_size=4, max_size=9), pause=small)
    def create_plain_transfers(self, events, pause):
        self._create("create_transfers", events, pause)

    @rule(events=st.lists(accounts, min_size=1, max_size=4), times=st.lists(st.integers(1, 40), min_size=4))
    def import_accounts(self, events, times):
        self._create("create_accounts", _imported(Account, 16, events, times), 50)

    @rule(
        events=st.lists(st.one_of(transfers, holds, resolutions), min_size=1, max_size=4),
        steps=st.lists(st.integers(-1, 3), min_size=4),
    )
    def import_transfers(self, events, steps):
        newest = self.ledger._state.log.newest
        times = [max(0, max(newest, self.now - 20) + sum(steps[: n + 1])) for n in range(len(steps))]
        self._create("create_transfers", _imported(Transfer, 256, events, times), 50)

    @rule(pause=st.sampled_from([0, 1, SECOND, 2 * SECOND]))
    def expire(self, pause):
        self.now += pause
        assert self.ledger.expire(timestamp=self.now) == self.model.expire(self.now)

    @rule(filter=account_filters)
    def ask_account(self, filter):
        assert _plain(self.ledger.get_account_transfers(filter)) == self.model.transfers_of(filter)
        assert _plain(self.ledger.get_account_balances(filter)) == self.model.balances_of(filter)

    @rule(filter=query_filters)
    def ask_all(self, filter):
        assert _plain(self.ledger.query_accounts(filter)) == self.model.query("accounts", filter)
        assert _plain(self.ledger.query_transfers(filter)) == self.model.query("transfers", filter)

    @rule()
    def ask_changes(self):
        got = self.ledger.get_change_events(QueryFilter(limit=10_000))
        moved = [(t["timestamp"], 0, n, t["id"]) for n, t in enumerate(self.model.state["transfers"].values())]
        expired = [(time, 1, n, id) for n, (time, id) in enumerate(self.model.state["expiries"])]
        assert [(e.timestamp, int(e.type == 4), e.transfer.id) for e in got] == [
            (time, kind, id) for time, kind, _, id in sorted(moved + expired)
        ]

    @rule()
    def restore(self):
        copy = Ledger()
        copy.restore(list(self.ledger.snapshot()))
        assert copy.state_hash() == self.ledger.state_hash()
        self.ledger = copy

    @invariant()
    def books_are_in_order(self):
        self.ledger.check_invariants()
        self.ledger._rows_checked = 0
        state = self.model.state
        assert _plain(self.ledger.lookup_accounts(range(100))) == [
            state["accounts"][id] for id in sorted(state["accounts"])
        ]
        assert _plain(self.ledger.query_transfers(QueryFilter(limit=10**6))) == list(state["transfers"].values())


LedgerBesideModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLedgerBesideModel = LedgerBesideModel.TestCase


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.lists(plain, min_size=1, max_size=20), st.lists(transfers, max_size=5)), max_size=6))
def test_fast_and_exact_loops_are_one(batches):
    """The fast loop is the exact loop, only faster: same answers, same state."""
    answers, hashes = [], []
    for events_min in (1, 10**9):
        with patch.object(machine, "_PLAIN_EVENTS_MIN", events_min):
            ledger, now, given_ = Ledger(), 100, []
            opening = [Account(id=n, ledger=1, code=1, flags=(0, 0, 2, 4, 8, 0)[n - 1]) for n in range(1, 7)]
            ledger.create_accounts(opening, timestamp=now)
            for batch in batches:
                now += len(batch)
                given_.append(ledger.create_transfers(batch, timestamp=now))
            answers.append(given_)
            hashes.append(ledger.state_hash())
            ledger.check_invariants()
    assert answers[0] == answers[1]
    assert hashes[0] == hashes[1]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda head, reserved, rows: bytes([head]) + reserved + rows,
            st.sampled_from([int(o) for o in Operation] + [0, 255]),
            mostly(st.just(bytes(7)), st.binary(min_size=7, max_size=7)),
            st.one_of(
                st.binary(max_size=300),
                st.binary(min_size=128, max_size=128),
                st.binary(min_size=64, max_size=64),
                st.builds(pack_transfers, st.lists(transfers, max_size=3)),
                st.builds(pack_accounts, st.lists(accounts, max_size=3)),
            ),
        ),
    ),
    st.integers(0, 2**64),
)
def test_any_bytes_are_answered(payload, timestamp):
    """No bytes and no time make a machine raise; what is refused changes nothing."""
    ledger = Ledger()
    ledger.create_accounts([Account(id=n, ledger=1, code=1) for n in (1, 2)], timestamp=1_000)
    for data in (payload, memoryview(payload)):
        before = ledger.state_hash()
        answered, asked = ledger.apply(data, timestamp), ledger.query(data)
        assert len(answered) >= 8
        assert len(asked) >= 8
        if answered[0]:
            assert Refusal(answered[0]).explain
            assert ledger.state_hash() == before
    ledger.check_invariants()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(transfers, max_size=5), max_size=5))
def test_bytes_and_objects_are_one(batches):
    """`apply` with packed records does what `create_transfers` does with objects."""
    by_objects, by_bytes, now = Ledger(), Ledger(), 10
    opening = [Account(id=n, ledger=1, code=1) for n in range(1, 7)]
    for ledger in (by_objects, by_bytes):
        ledger.create_accounts(opening, timestamp=now)
    for batch in batches:
        now += len(batch)
        results = by_objects.create_transfers(batch, timestamp=now)
        answer = by_bytes.apply(encode_request(Operation.CREATE_TRANSFERS, pack_transfers(batch)), now)
        rows = decode_answer(answer, Operation.CREATE_TRANSFERS)
        assert not isinstance(rows, Refusal)
        assert machine.records.unpack_transfer_results(rows) == results
    assert by_objects.state_hash() == by_bytes.state_hash()


def test_random_histories_reach_every_rule():
    """Histories that aim at the rules meet every status there is, and the model agrees with each."""
    met = Counter()
    for seed in range(60):
        met += _live_through(seed, steps=120)
    known = [f"{kind.__name__}.{s.name}" for kind in (CreateAccountStatus, CreateTransferStatus) for s in kind]
    assert [name for name in known if not met[name]] == []


@settings(max_examples=60, deadline=None)
@given(st.integers(60, 2**63))
def test_random_histories(seed):
    """The same with seeds of hypothesis's choosing, which it remembers when they fail."""
    _live_through(seed, steps=60)


def _live_through(seed, steps):
    """One random history in the ledger and in the model; what the events came to."""
    ledger, model, met = Ledger(), NaiveLedger(), Counter()
    histories = Histories(seed, model)
    for step in range(steps):
        if seed % 3 == 0 and step == steps // 2:
            _bring_near_overflow(histories.random, ledger, model)
        method, events, now = histories.step()
        if method == "expire":
            assert ledger.expire(timestamp=now) == model.expire(now), f"seed {seed}"
            continue
        got = getattr(ledger, method)(events, timestamp=now)
        want = getattr(model, method)(events, now)
        assert got == want, f"seed {seed}, {method}({events})"
        met.update(f"{type(status).__name__}.{status.name}" for _, status in got)
    assert _plain(ledger.query_transfers(QueryFilter(limit=10**6))) == list(model.state["transfers"].values())
    assert _plain(ledger.query_accounts(QueryFilter(limit=10**6))) == list(model.state["accounts"].values())
    for id in model.state["accounts"]:
        filter = AccountFilter(account_id=id, limit=10**6, flags=3)
        assert _plain(ledger.get_account_balances(filter)) == model.balances_of(filter)
    ledger.check_invariants()
    return met


def _bring_near_overflow(random, ledger, model):
    """Balances that small amounts would never reach; only tests can write them."""
    for id, account in model.state["accounts"].items():
        side, kind = random.choice(["debits", "credits"]), random.choice(["pending", "posted"])
        room = INT_MAX - account[f"{side}_pending"] - account[f"{side}_posted"]
        account[f"{side}_{kind}"] += max(0, room - random.randint(0, 10))
        ledger._set_balances(id, **{f"{side}_{kind}": account[f"{side}_{kind}"]})


def _imported(kind, flag, events, times):
    return [
        kind(**{**fields(event), "flags": int(event.flags) | flag, "timestamp": time})
        for event, time in zip(events, times, strict=False)
    ]


def _plain(records):
    return [fields(record) for record in records]
