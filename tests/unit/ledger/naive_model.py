"""A second, naive ledger, written from the rules alone: plain dicts, whole copies for chains, no index, no speed.

It shares the public types with the product and nothing else. The property tests hold the two against each other.
"""

from copy import deepcopy

from dompbus.ledger import CreateAccountStatus, CreateTransferStatus

INT_MAX = 2**128 - 1
TIME_MAX = 2**63 - 1
A, T = CreateAccountStatus, CreateTransferStatus
TRANSIENT = {
    T.DEBIT_ACCOUNT_NOT_FOUND,
    T.CREDIT_ACCOUNT_NOT_FOUND,
    T.PENDING_TRANSFER_NOT_FOUND,
    T.EXCEEDS_CREDITS,
    T.EXCEEDS_DEBITS,
    T.DEBIT_ACCOUNT_ALREADY_CLOSED,
    T.CREDIT_ACCOUNT_ALREADY_CLOSED,
}
LINKED, PENDING, POST, VOID, BALANCE_DEBIT, BALANCE_CREDIT, CLOSE_DEBIT, CLOSE_CREDIT, IMPORTED = (
    1 << n for n in range(9)
)
BALANCES = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


def fields(event):
    return {name: int(getattr(event, name)) for name in event.__struct_fields__}


def first(checks):
    """The status of the first check that is true."""
    return next((status for broken, status in checks if broken), None)


class NaiveLedger:
    def __init__(self):
        self.state = {"accounts": {}, "transfers": {}, "holds": {}, "history": [], "expiries": []}
        self.burnt = set()
        self.last = 0

    # -- batches (R1, R2, R10) ----------------------------------------------------------------------------------
    def create_accounts(self, accounts, timestamp):
        return self._batch([fields(a) for a in accounts], timestamp, A, self._create_account, 16)

    def create_transfers(self, transfers, timestamp):
        return self._batch([fields(t) for t in transfers], timestamp, T, self._create_transfer, 256)

    def _batch(self, events, timestamp, codes, create, imported_flag):
        if not events:
            return []
        assert self.last <= timestamp - len(events)
        self.last = timestamp
        first_imported = events[0]["flags"] & imported_flag
        results, chain, before, broken = [], [], None, False
        for i, event in enumerate(events):
            slot = timestamp - len(events) + i + 1
            linked = event["flags"] & LINKED
            if linked and not chain:
                before, broken = deepcopy(self.state), False
            in_chain = linked or bool(chain)
            imported = event["flags"] & imported_flag
            status = first(
                [
                    (linked and i == len(events) - 1, codes.LINKED_EVENT_CHAIN_OPEN),
                    (in_chain and broken, codes.LINKED_EVENT_FAILED),
                    (first_imported and not imported, codes.IMPORTED_EVENT_EXPECTED),
                    (imported and not first_imported, codes.IMPORTED_EVENT_NOT_EXPECTED),
                    (
                        imported and not 1 <= event["timestamp"] <= TIME_MAX,
                        codes.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE,
                    ),
                    (imported and event["timestamp"] >= timestamp, codes.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE),
                    (not imported and event["timestamp"], codes.TIMESTAMP_MUST_BE_ZERO),
                ]
            )
            time = slot
            if status is None:
                status, time = create(event, event["timestamp"] if imported else slot, slot)
                if status in TRANSIENT and codes is T:
                    self.burnt.add(event["id"])
            results.append((time, status))
            if in_chain:
                chain.append(i)
                if status is not codes.CREATED and not broken:
                    self.state, broken = before, True
                    for member in chain[:-1]:
                        results[member] = (results[member][0], codes.LINKED_EVENT_FAILED)
            if not linked:
                chain = []
        return results

    # -- accounts (R3) ------------------------------------------------------------------------------------------
    def _create_account(self, e, time, slot):
        accounts = self.state["accounts"]
        old = accounts.get(e["id"])
        checks = [
            (e["reserved"], A.RESERVED_FIELD),
            (e["flags"] >= 64, A.RESERVED_FLAG),
            (e["id"] == 0, A.ID_MUST_NOT_BE_ZERO),
            (e["id"] == INT_MAX, A.ID_MUST_NOT_BE_INT_MAX),
        ]
        if old:
            names = ("flags", "user_data_128", "user_data_64", "user_data_32", "ledger", "code")
            checks += [(e[name] != old[name], A[f"EXISTS_WITH_DIFFERENT_{name.upper()}"]) for name in names]
            checks.append((True, A.EXISTS))
        checks += [
            (e["flags"] & 2 and e["flags"] & 4, A.FLAGS_ARE_MUTUALLY_EXCLUSIVE),
            *[(e[name], A[f"{name.upper()}_MUST_BE_ZERO"]) for name in BALANCES],
            (e["ledger"] == 0, A.LEDGER_MUST_NOT_BE_ZERO),
            (e["code"] == 0, A.CODE_MUST_NOT_BE_ZERO),
            (e["flags"] & 16 and self._regresses(e, "accounts"), A.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS),
        ]
        status = first(checks)
        if status:
            return status, old["timestamp"] if status is A.EXISTS else slot
        accounts[e["id"]] = {**e, "timestamp": time}
        return A.CREATED, time

    def _regresses(self, e, kind):
        other = "transfers" if kind == "accounts" else "accounts"
        times = [x["timestamp"] for x in self.state[kind].values()]
        return e["timestamp"] <= max(times, default=0) or e["timestamp"] in {
            x["timestamp"] for x in self.state[other].values()
        }

    # -- transfers (R4 - R7) ------------------------------------------------------------------------------------
    def _create_transfer(self, e, time, slot):
        old = self.state["transfers"].get(e["id"])
        status = first(
            [
                (e["flags"] >= 512, T.RESERVED_FLAG),
                (e["id"] == 0, T.ID_MUST_NOT_BE_ZERO),
                (e["id"] == INT_MAX, T.ID_MUST_NOT_BE_INT_MAX),
            ]
        )
        if status:
            return status, slot
        if old:
            status = self._retry(e, old)
            return status, old["timestamp"] if status is T.EXISTS else slot
        if e["id"] in self.burnt:
            return T.ID_ALREADY_FAILED, slot
        status = self._post_or_void(e, time, slot) if e["flags"] & (POST | VOID) else self._move(e, time)
        return (T.CREATED, time) if status is None else (status, slot)

    def _retry(self, e, old):
        asked = e
        if e["flags"] == old["flags"] and e["flags"] & (POST | VOID) and e["pending_id"] == old["pending_id"]:
            asked = self._inherited(e, self.state["transfers"][e["pending_id"]])
        enough = e["flags"] & (BALANCE_DEBIT | BALANCE_CREDIT) and e["amount"] >= old["amount"]
        checks = [
            (e[name] != old[name], T[f"EXISTS_WITH_DIFFERENT_{name.upper()}"])
            for name in ("flags", "pending_id", "timeout")
        ]
        for name in ("debit_account_id", "credit_account_id", "amount"):
            different = asked[name] != old[name] and not (name == "amount" and enough)
            checks.append((different, T[f"EXISTS_WITH_DIFFERENT_{name.upper()}"]))
        names = ("user_data_128", "user_data_64", "user_data_32", "ledger", "code")
        checks += [(asked[name] != old[name], T[f"EXISTS_WITH_DIFFERENT_{name.upper()}"]) for name in names]
        return first([*checks, (True, T.EXISTS)])

    def _move(self, e, time):
        pending, imported = e["flags"] & PENDING, e["flags"] & IMPORTED
        debit = self.state["accounts"].get(e["debit_account_id"])
        credit = self.state["accounts"].get(e["credit_account_id"])
        status = first(
            [
                (e["debit_account_id"] == 0, T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO),
                (e["debit_account_id"] == INT_MAX, T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX),
                (e["credit_account_id"] == 0, T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO),
                (e["credit_account_id"] == INT_MAX, T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX),
                (e["debit_account_id"] == e["credit_account_id"], T.ACCOUNTS_MUST_BE_DIFFERENT),
                (e["pending_id"], T.PENDING_ID_MUST_BE_ZERO),
                (e["timeout"] and not pending, T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
                (e["flags"] & (CLOSE_DEBIT | CLOSE_CREDIT) and not pending, T.CLOSING_TRANSFER_MUST_BE_PENDING),
                (e["ledger"] == 0, T.LEDGER_MUST_NOT_BE_ZERO),
                (e["code"] == 0, T.CODE_MUST_NOT_BE_ZERO),
                (debit is None, T.DEBIT_ACCOUNT_NOT_FOUND),
                (credit is None, T.CREDIT_ACCOUNT_NOT_FOUND),
            ]
        )
        if status:
            return status
        status = first(
            [
                (debit["ledger"] != credit["ledger"], T.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER),
                (e["ledger"] != debit["ledger"], T.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS),
                (imported and self._regresses(e, "transfers"), T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS),
                (imported and time <= debit["timestamp"], T.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT),
                (imported and time <= credit["timestamp"], T.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT),
                (imported and e["timeout"], T.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO),
                (debit["flags"] & 32, T.DEBIT_ACCOUNT_ALREADY_CLOSED),
                (credit["flags"] & 32, T.CREDIT_ACCOUNT_ALREADY_CLOSED),
            ]
        )
        if status:
            return status
        amount = e["amount"]
        if e["flags"] & BALANCE_DEBIT:
            room = debit["credits_posted"] - debit["debits_posted"] - debit["debits_pending"]
            amount = min(amount, max(0, room))
        if e["flags"] & BALANCE_CREDIT:
            room = credit["debits_posted"] - credit["credits_posted"] - credit["credits_pending"]
            amount = min(amount, max(0, room))
        dp, do, cp, co = (
            debit["debits_pending"] + amount,
            debit["debits_posted"] + amount,
            credit["credits_pending"] + amount,
            credit["credits_posted"] + amount,
        )
        debits, credits = dp + debit["debits_posted"], cp + credit["credits_posted"]
        status = first(
            [
                (pending and dp > INT_MAX, T.OVERFLOWS_DEBITS_PENDING),
                (pending and cp > INT_MAX, T.OVERFLOWS_CREDITS_PENDING),
                (do > INT_MAX, T.OVERFLOWS_DEBITS_POSTED),
                (co > INT_MAX, T.OVERFLOWS_CREDITS_POSTED),
                (debits > INT_MAX, T.OVERFLOWS_DEBITS),
                (credits > INT_MAX, T.OVERFLOWS_CREDITS),
                (time + e["timeout"] * 10**9 > TIME_MAX, T.OVERFLOWS_TIMEOUT),
                (debit["flags"] & 2 and debits > debit["credits_posted"], T.EXCEEDS_CREDITS),
                (credit["flags"] & 4 and credits > credit["debits_posted"], T.EXCEEDS_DEBITS),
            ]
        )
        if status:
            return status
        kind = "pending" if pending else "posted"
        debit[f"debits_{kind}"] += amount
        credit[f"credits_{kind}"] += amount
        debit["flags"] |= 32 if e["flags"] & CLOSE_DEBIT else 0
        credit["flags"] |= 32 if e["flags"] & CLOSE_CREDIT else 0
        if pending:
            self.state["holds"][e["id"]] = "pending"
        self._record({**e, "amount": amount, "timestamp": time})
        return None

    def _inherited(self, e, hold):
        inherited = dict(e)
        names = ("debit_account_id", "credit_account_id", "ledger", "code")
        for name in (*names, "user_data_128", "user_data_64", "user_data_32"):
            inherited[name] = e[name] or hold[name]
        if e["amount"] == (INT_MAX if e["flags"] & POST else 0):
            inherited["amount"] = hold["amount"]
        return inherited

    def _post_or_void(self, e, time, slot):
        flags = e["flags"]
        others = flags & (PENDING | BALANCE_DEBIT | BALANCE_CREDIT | CLOSE_DEBIT | CLOSE_CREDIT)
        hold = self.state["transfers"].get(e["pending_id"])
        status = first(
            [
                ((flags & POST and flags & VOID) or others, T.FLAGS_ARE_MUTUALLY_EXCLUSIVE),
                (e["pending_id"] == 0, T.PENDING_ID_MUST_NOT_BE_ZERO),
                (e["pending_id"] == INT_MAX, T.PENDING_ID_MUST_NOT_BE_INT_MAX),
                (e["pending_id"] == e["id"], T.PENDING_ID_MUST_BE_DIFFERENT),
                (e["timeout"], T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
                (hold is None, T.PENDING_TRANSFER_NOT_FOUND),
                (hold and not hold["flags"] & PENDING, T.PENDING_TRANSFER_NOT_PENDING),
            ]
        )
        if status:
            return status
        e = self._inherited(e, hold)
        fate = self.state["holds"][hold["id"]]
        overdue = hold["timeout"] and hold["timestamp"] + hold["timeout"] * 10**9 <= slot
        debit = self.state["accounts"][hold["debit_account_id"]]
        credit = self.state["accounts"][hold["credit_account_id"]]
        status = first(
            [
                *[
                    (e[name] != hold[name], T[f"PENDING_TRANSFER_HAS_DIFFERENT_{name.upper()}"])
                    for name in ("debit_account_id", "credit_account_id", "ledger", "code")
                ],
                (e["amount"] > hold["amount"], T.EXCEEDS_PENDING_TRANSFER_AMOUNT),
                (flags & VOID and e["amount"] < hold["amount"], T.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT),
                (fate == "posted", T.PENDING_TRANSFER_ALREADY_POSTED),
                (fate == "voided", T.PENDING_TRANSFER_ALREADY_VOIDED),
                (fate == "expired" or overdue, T.PENDING_TRANSFER_EXPIRED),
                (
                    flags & IMPORTED and self._regresses(e, "transfers"),
                    T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS,
                ),
                (flags & POST and debit["flags"] & 32, T.DEBIT_ACCOUNT_ALREADY_CLOSED),
                (flags & POST and credit["flags"] & 32, T.CREDIT_ACCOUNT_ALREADY_CLOSED),
            ]
        )
        if status:
            return status
        self._release(hold, "posted" if flags & POST else "voided")
        if flags & POST:
            debit["debits_posted"] += e["amount"]
            credit["credits_posted"] += e["amount"]
        self._record({**e, "timestamp": time})
        return None

    def _release(self, hold, fate):
        debit = self.state["accounts"][hold["debit_account_id"]]
        credit = self.state["accounts"][hold["credit_account_id"]]
        debit["debits_pending"] -= hold["amount"]
        credit["credits_pending"] -= hold["amount"]
        debit["flags"] &= ~32 if hold["flags"] & CLOSE_DEBIT else -1
        credit["flags"] &= ~32 if hold["flags"] & CLOSE_CREDIT else -1
        self.state["holds"][hold["id"]] = fate

    def _record(self, transfer):
        self.state["transfers"][transfer["id"]] = transfer
        for name in ("debit_account_id", "credit_account_id"):
            account = self.state["accounts"][transfer[name]]
            if account["flags"] & 8:
                balances = {balance: account[balance] for balance in BALANCES}
                self.state["history"].append((account["id"], transfer["id"], balances))

    # -- expiry (R8) --------------------------------------------------------------------------------------------
    def expire(self, timestamp):
        assert self.last <= timestamp
        self.last = timestamp
        due = []
        for id_, fate in self.state["holds"].items():
            hold = self.state["transfers"][id_]
            end = hold["timestamp"] + hold["timeout"] * 10**9
            if fate == "pending" and hold["timeout"] and end <= timestamp:
                due.append((end, hold["timestamp"], hold))
        for _, _, hold in sorted(due, key=lambda entry: entry[:2]):
            self._release(hold, "expired")
            self.state["expiries"].append((timestamp, hold["id"]))
        return len(due)

    # -- queries (R11) ------------------------------------------------------------------------------------------
    def transfers_of(self, filter):
        known = (1 | 2 | 4) & filter.flags == filter.flags
        if not known or not filter.flags & 3 or filter.account_id in (0, INT_MAX) or not self._bounds(filter):
            return []
        found = [
            t
            for t in self.state["transfers"].values()
            if (filter.flags & 1 and t["debit_account_id"] == filter.account_id)
            or (filter.flags & 2 and t["credit_account_id"] == filter.account_id)
        ]
        return self._select(found, filter, filter.flags & 4)

    def balances_of(self, filter):
        balances = {id_: b for account, id_, b in self.state["history"] if account == filter.account_id}
        kept = self.transfers_of(filter) if balances else []
        return [{**balances[t["id"]], "timestamp": t["timestamp"]} for t in kept]

    def query(self, kind, filter):
        if filter.flags not in (0, 1) or not self._bounds(filter):
            return []
        return self._select(list(self.state[kind].values()), filter, filter.flags & 1)

    def _bounds(self, filter):
        low, high = filter.timestamp_min, filter.timestamp_max
        return filter.limit and low <= TIME_MAX and high <= TIME_MAX and (not high or low <= high)

    def _select(self, found, filter, reverse):
        names = [n for n in filter.__struct_fields__ if n.startswith("user_data") or n in ("ledger", "code")]
        found = [
            x
            for x in found
            if all(getattr(filter, name) in (0, x[name]) for name in names)
            and filter.timestamp_min <= x["timestamp"] <= (filter.timestamp_max or TIME_MAX)
        ]
        return sorted(found, key=lambda x: x["timestamp"], reverse=bool(reverse))[: filter.limit]
