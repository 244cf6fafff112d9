"""R2-R5: every rule is reported, and of two that are broken the one that stands first in the documentation."""

from itertools import combinations

import pytest

from dompbus.ledger import Account, CreateAccountStatus, CreateTransferStatus, Transfer, TransferFlags
from tests.unit.ledger.worlds import INT_MAX, START, World, full_world, open_world, usual

A, T = CreateAccountStatus, CreateTransferStatus
PENDING, POST, VOID, IMPORTED = (
    TransferFlags[n] for n in ("PENDING", "POST_PENDING_TRANSFER", "VOID_PENDING_TRANSFER", "IMPORTED")
)

IDENTITY = [
    (T.RESERVED_FLAG, {"flags": 512}),
    (T.ID_MUST_NOT_BE_ZERO, {"id": 0}),
    (T.ID_MUST_NOT_BE_INT_MAX, {"id": INT_MAX}),
]
EXISTS = [
    (T.EXISTS_WITH_DIFFERENT_FLAGS, {"id": 50, "flags": PENDING}),
    (T.EXISTS_WITH_DIFFERENT_PENDING_ID, {"id": 50, "pending_id": 9}),
    (T.EXISTS_WITH_DIFFERENT_TIMEOUT, {"id": 50, "timeout": 9}),
    (T.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID, {"id": 50, "debit_account_id": 0}),
    (T.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID, {"id": 50, "credit_account_id": 999}),
    (T.EXISTS_WITH_DIFFERENT_AMOUNT, {"id": 50, "amount": 11}),
    (T.EXISTS_WITH_DIFFERENT_USER_DATA_128, {"id": 50, "user_data_128": 1}),
    (T.EXISTS_WITH_DIFFERENT_USER_DATA_64, {"id": 50, "user_data_64": 1}),
    (T.EXISTS_WITH_DIFFERENT_USER_DATA_32, {"id": 50, "user_data_32": 1}),
    (T.EXISTS_WITH_DIFFERENT_LEDGER, {"id": 50, "ledger": 0}),
    (T.EXISTS_WITH_DIFFERENT_CODE, {"id": 50, "code": 0}),
    (T.EXISTS, {"id": 50}),
]
MOVEMENT = [
    (T.ID_ALREADY_FAILED, {"id": 60}),
    (T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO, {"debit_account_id": 0}),
    (T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX, {"debit_account_id": INT_MAX}),
    (T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO, {"credit_account_id": 0}),
    (T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX, {"credit_account_id": INT_MAX}),
    (T.ACCOUNTS_MUST_BE_DIFFERENT, {"debit_account_id": 1, "credit_account_id": 1}),
    (T.PENDING_ID_MUST_BE_ZERO, {"pending_id": 9 << 64}),
    (T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER, {"timeout": 9, "flags": 0}),
    (T.CLOSING_TRANSFER_MUST_BE_PENDING, {"flags": TransferFlags.CLOSING_DEBIT}),
    (T.LEDGER_MUST_NOT_BE_ZERO, {"ledger": 0}),
    (T.CODE_MUST_NOT_BE_ZERO, {"code": 0}),
    (T.DEBIT_ACCOUNT_NOT_FOUND, {"debit_account_id": 999}),
    (T.CREDIT_ACCOUNT_NOT_FOUND, {"credit_account_id": 998}),
    (T.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER, {"debit_account_id": 3}),
    (T.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS, {"ledger": 9}),
    (T.DEBIT_ACCOUNT_ALREADY_CLOSED, {"debit_account_id": 5}),
    (T.CREDIT_ACCOUNT_ALREADY_CLOSED, {"credit_account_id": 6}),
    (T.OVERFLOWS_DEBITS_PENDING, {"debit_account_id": 11, "flags": PENDING}),
    (T.OVERFLOWS_CREDITS_PENDING, {"credit_account_id": 12, "flags": PENDING}),
    (T.OVERFLOWS_DEBITS_POSTED, {"debit_account_id": 13}),
    (T.OVERFLOWS_CREDITS_POSTED, {"credit_account_id": 14}),
    (T.OVERFLOWS_DEBITS, {"debit_account_id": 15}),
    (T.OVERFLOWS_CREDITS, {"credit_account_id": 16}),
    (T.OVERFLOWS_TIMEOUT, {"flags": PENDING, "timeout": 2**32 - 1}),
    (T.EXCEEDS_CREDITS, {"debit_account_id": 17}),
    (T.EXCEEDS_DEBITS, {"credit_account_id": 18}),
]
RESOLUTION = [
    (T.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {"flags": PENDING}),
    (T.PENDING_ID_MUST_NOT_BE_ZERO, {"pending_id": 0}),
    (T.PENDING_ID_MUST_NOT_BE_INT_MAX, {"pending_id": INT_MAX}),
    (T.PENDING_ID_MUST_BE_DIFFERENT, {"pending_id": 100}),
    (T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER, {"timeout": 1}),
    (T.PENDING_TRANSFER_NOT_FOUND, {"pending_id": 999}),
    (T.PENDING_TRANSFER_NOT_PENDING, {"pending_id": 50}),
    (T.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID, {"debit_account_id": 3}),
    (T.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID, {"credit_account_id": 3}),
    (T.PENDING_TRANSFER_HAS_DIFFERENT_LEDGER, {"ledger": 2}),
    (T.PENDING_TRANSFER_HAS_DIFFERENT_CODE, {"code": 2}),
    (T.EXCEEDS_PENDING_TRANSFER_AMOUNT, {"amount": 11}),
    (T.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT, {"amount": 9, "flags": VOID}),
    (T.PENDING_TRANSFER_ALREADY_POSTED, {"pending_id": 52}),
    (T.PENDING_TRANSFER_ALREADY_VOIDED, {"pending_id": 53}),
    (T.PENDING_TRANSFER_EXPIRED, {"pending_id": 54}),
    (T.DEBIT_ACCOUNT_ALREADY_CLOSED, {"pending_id": 55, "flags": POST}),
]
ACCOUNT = [
    (A.RESERVED_FIELD, {"reserved": 1}),
    (A.RESERVED_FLAG, {"flags": 64}),
    (A.ID_MUST_NOT_BE_ZERO, {"id": 0}),
    (A.ID_MUST_NOT_BE_INT_MAX, {"id": INT_MAX}),
    (A.EXISTS_WITH_DIFFERENT_FLAGS, {"id": 1, "flags": 8}),
    (A.EXISTS_WITH_DIFFERENT_USER_DATA_128, {"id": 1, "user_data_128": 1}),
    (A.EXISTS_WITH_DIFFERENT_USER_DATA_64, {"id": 1, "user_data_64": 1}),
    (A.EXISTS_WITH_DIFFERENT_USER_DATA_32, {"id": 1, "user_data_32": 1}),
    (A.EXISTS_WITH_DIFFERENT_LEDGER, {"id": 1, "ledger": 9}),
    (A.EXISTS_WITH_DIFFERENT_CODE, {"id": 1, "code": 9}),
    (A.EXISTS, {"id": 1}),
    (A.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {"flags": 6}),
    (A.DEBITS_PENDING_MUST_BE_ZERO, {"debits_pending": 1}),
    (A.DEBITS_POSTED_MUST_BE_ZERO, {"debits_posted": 1}),
    (A.CREDITS_PENDING_MUST_BE_ZERO, {"credits_pending": 1}),
    (A.CREDITS_POSTED_MUST_BE_ZERO, {"credits_posted": 1}),
    (A.LEDGER_MUST_NOT_BE_ZERO, {"ledger": 0}),
    (A.CODE_MUST_NOT_BE_ZERO, {"code": 0}),
]


def merged(*changes):
    """One event that breaks all these rules, or None when two of them need different values of one field."""
    event = {}
    for change in changes:
        for name, value in change.items():
            if name == "flags":
                event["flags"] = event.get("flags", 0) | value
            elif event.setdefault(name, value) != value:
                return None
    return event


def pairs(table, impossible=lambda earlier, later: False):
    """(the code of the earlier rule, an event that breaks both) for every pair that one event can break."""
    found = []
    for earlier, later in combinations(table, 2):
        event = merged(earlier[1], later[1])
        if event is not None and not impossible(earlier, later):
            found.append(pytest.param(earlier[0], event, id=f"{earlier[0].name}-{later[0].name}"))
    return found


def mends(earlier, later):
    """Whether breaking the later rule makes the earlier one hold."""
    changed, flags = later[1], later[1].get("flags", 0)
    if earlier[0] in (T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER, T.CLOSING_TRANSFER_MUST_BE_PENDING):
        return bool(flags & PENDING)
    if earlier[0] is T.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER:
        return changed.get("credit_account_id") in (3, 4)
    return False


def hides(earlier, later):
    """Whether the later change of a resolution breaks something still earlier, or the pair asks for both at once."""
    flags = earlier[1].get("flags", 0) | later[1].get("flags", 0)
    if flags & VOID and (flags & POST or later[1].get("pending_id") == 55):
        return True
    post_only = later[0] is T.DEBIT_ACCOUNT_ALREADY_CLOSED  # hold 55 is between other accounts
    return post_only and earlier[0].name.startswith("PENDING_TRANSFER_HAS_DIFFERENT")


@pytest.fixture(scope="module")
def full():
    return full_world()


OTHER_SIDE = (T.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER, {"credit_account_id": 3})


@pytest.mark.parametrize(
    ("status", "event"), [*IDENTITY, *EXISTS, *MOVEMENT, OTHER_SIDE], ids=lambda v: getattr(v, "name", "")
)
def test_each_transfer_rule(status, event):
    """R4: an event that breaks one rule gets that rule's code: alone, and among plain ones, which have another loop."""
    assert full_world().one(**event) is status
    fillers = [Transfer(**usual(id=1_000 + n, debit_account_id=2, credit_account_id=1)) for n in range(6)]
    world = full_world(nearly_full=status.name.startswith("OVERFLOWS"))
    found = world.statuses(*fillers[:3], Transfer(**usual(**event)), *fillers[3:])
    assert found == [T.CREATED] * 3 + [status] + [T.CREATED] * 3


@pytest.mark.parametrize(("status", "event"), [*pairs(IDENTITY), *pairs(EXISTS[:-1]), *pairs(MOVEMENT, mends)])
def test_transfer_rules_in_order(status, event):
    """R4: of two broken rules the earlier one is reported."""
    assert full_world().one(**event) is status


@pytest.mark.parametrize("later", [*EXISTS, *MOVEMENT], ids=lambda v: getattr(v, "name", ""))
def test_identity_comes_first(later):
    """R4: a reserved flag hides whatever else is wrong."""
    assert full_world().one(**merged({"flags": 512}, later[1])) is T.RESERVED_FLAG


@pytest.mark.parametrize(("status", "change"), RESOLUTION, ids=lambda v: getattr(v, "name", ""))
def test_each_resolution_rule(status, change):
    """R5: a post or void that breaks one rule gets that rule's code."""
    assert full_world().one(**_resolution(change)) is status


@pytest.mark.parametrize(("status", "event"), pairs(RESOLUTION, hides))
def test_resolution_rules_in_order(status, event):
    """R5: of two broken rules the earlier one is reported."""
    assert full_world().one(**_resolution(event)) is status


def test_a_burnt_pending_id_is_not_found(full):
    """R5: a transfer that failed for ever is no hold."""
    assert full.one(**_resolution({"id": 101, "pending_id": 60})) is T.PENDING_TRANSFER_NOT_FOUND


@pytest.mark.parametrize(("status", "change"), ACCOUNT, ids=lambda v: getattr(v, "name", ""))
def test_each_account_rule(status, change):
    """R3: an event that breaks one rule gets that rule's code."""
    assert _account_status(open_world(), change) is status


BALANCES = [row for row in ACCOUNT if len(row[1]) == 1 and set(row[1].values()) == {1} and "id" not in row[1]]


@pytest.mark.parametrize(
    ("status", "event"),
    [
        *pairs(ACCOUNT[:4]),
        *pairs(ACCOUNT[4:10]),
        *pairs(ACCOUNT[11:]),
        *pairs([ACCOUNT[0], *ACCOUNT[5:10]]),
        *pairs([ACCOUNT[10], *BALANCES[1:]])[: len(BALANCES) - 1],
    ],
)
def test_account_rules_in_order(status, event):
    """R3: of two broken rules the earlier one is reported."""
    assert _account_status(open_world(), event) is status


IMPORT = [
    (T.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE, {"timestamp": 0}),
    (T.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE, {"timestamp": 2**63}),
    (T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE, {"timestamp": 2**63 - 1}),
    (T.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS, {"ledger": 9}),
    (T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, {"timestamp": 105}),  # the newest transfer's
    (T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, {"timestamp": 120}),  # account 4's
    (T.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT, {"timestamp": 110, "debit_account_id": 4}),
    (T.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT, {"timestamp": 110, "credit_account_id": 5}),
    (T.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO, {"timestamp": 110, "flags": PENDING, "timeout": 1}),
    (T.DEBIT_ACCOUNT_ALREADY_CLOSED, {"timestamp": 110, "debit_account_id": 3}),
]


def _import_world():
    world = World()
    world.ledger.create_accounts(
        [Account(id=n, ledger=1, code=1, flags=16 | (32 if n == 3 else 0), timestamp=100 + n) for n in (1, 2, 3)]
        + [Account(id=n, ledger=1, code=1, flags=16, timestamp=116 + n) for n in (4, 5)],
        timestamp=1_000,
    )
    results = world.ledger.create_transfers([Transfer(**usual(id=1, flags=IMPORTED, timestamp=105))], timestamp=2_000)
    assert results == [(105, T.CREATED)]
    return world


@pytest.mark.parametrize(("status", "change"), IMPORT, ids=lambda v: getattr(v, "name", ""))
def test_each_import_rule(status, change):
    """R2, R4: an imported event that breaks one rule gets that rule's code."""
    assert _import(_import_world(), change) is status


@pytest.mark.parametrize(("status", "event"), pairs(IMPORT))
def test_import_rules_in_order(status, event):
    """R2, R4: of two broken rules the earlier one is reported."""
    assert _import(_import_world(), event) is status


def test_imported_accounts():
    """R3: an imported account is newer than every account and equal to no transfer."""
    world = _import_world()
    for id, timestamp, status in [
        (10, 121, A.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS),
        (10, 122, A.CREATED),
        (11, 2_500, A.CREATED),
        (12, 9_999, A.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE),
    ]:
        last = max(world.ledger.last_timestamp, 2_999) + 1
        account = Account(id=id, ledger=1, code=1, flags=16, timestamp=timestamp)
        assert world.ledger.create_accounts([account], timestamp=last)[0][1] is status
    assert _import(world, {"id": 2, "timestamp": 2_700}) is T.CREATED
    account = Account(id=13, ledger=1, code=1, flags=16, timestamp=2_700)
    assert world.ledger.create_accounts([account], timestamp=9_001)[0][1] is A.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS


def test_imported_resolution():
    """R5: a post of a hold with a timeout may be imported; its expiry is compared with the slot, not its own time."""
    world = _import_world()
    world.ledger.create_transfers([Transfer(**usual(id=2, flags=PENDING, timeout=1))], timestamp=3_000)
    late = {"id": 3, "pending_id": 2, "flags": POST, "amount": INT_MAX}
    assert _import(world, {**late, "timestamp": 3_000}) is T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
    assert _import(world, {**late, "timestamp": 3_001}, at=3_000 + 10**9) is T.PENDING_TRANSFER_EXPIRED
    early = _import_world()
    early.ledger.create_transfers([Transfer(**usual(id=2, flags=PENDING, timeout=1))], timestamp=3_000)
    assert _import(early, {**late, "timestamp": 3_001}, at=2_999 + 10**9) is T.CREATED


def _import(world, change, at=9_000):
    at = max(at, world.ledger.last_timestamp + 1)
    fields = usual(**{"timestamp": 110, **change})
    fields["flags"] = fields.get("flags", 0) | IMPORTED
    return world.ledger.create_transfers([Transfer(**fields)], timestamp=at)[0][1]


def _resolution(change):
    """A post of hold 51, changed; `flags` are added, a void takes the place of the post."""
    flags = change.get("flags", 0)
    if not flags & VOID:
        flags |= POST
    base = {"pending_id": 51, "debit_account_id": 0, "credit_account_id": 0, "ledger": 0, "code": 0}
    base["amount"] = 0 if flags & VOID else INT_MAX
    return {**base, **change, "flags": flags}


def _account_status(world, change):
    event = Account(**{"id": 100, "ledger": 1, "code": 1, **change})
    return world.ledger.create_accounts([event], timestamp=START + 10**12)[0][1]
