"""Every bound of the system, each with why and its precedent. Relations between bounds are asserted at import.

The law here: nothing that arrives from a network, a file or a caller makes us allocate, queue or loop without
one of these numbers having been checked first.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# -- wire ------------------------------------------------------------------------------------------------------
HEADER_BYTES: Final = 48  # fixed; see docs/protocol.md
BODY_BYTES_MAX: Final = 4 * MIB  # one ledger batch is 1 MiB; NATS refuses above 1 MiB by default, Kafka above 1 MiB
FRAME_BYTES_MAX: Final = HEADER_BYTES + BODY_BYTES_MAX
PAYLOAD_BYTES_MAX: Final = BODY_BYTES_MAX - KIB  # of a request or reply, which travels with its number and name
MESSAGES_PER_FRAME_MAX: Final = 65_536  # bounds the objects that one frame can make a reader build
RUNS_PER_FRAME_MAX: Final = 4_096  # topics in one frame
TOPIC_BYTES_MAX: Final = 255  # as MQTT brokers and NATS users keep it; fits one length byte
TOPIC_LEVELS_MAX: Final = 16
NAME_BYTES_MAX: Final = 128  # node, service and client names
SUBSCRIPTIONS_PER_PEER_MAX: Final = 4_096
REQUESTS_PER_FRAME_MAX: Final = 1_024
EPOCH_MAX: Final = 2**63 - 1  # fits a signed 64-bit integer in every language
SEQ_MAX: Final = 2**63 - 1
TIME_NS_MAX: Final = 2**63 - 1

# -- batching --------------------------------------------------------------------------------------------------
BATCH_MESSAGES_DEFAULT: Final = 256  # measured: 86 ns a message to encode; larger batches gain < 3 %
BATCH_BYTES_DEFAULT: Final = 64 * KIB

# -- queues ----------------------------------------------------------------------------------------------------
SOCKET_QUEUE_FRAMES: Final = 1_000  # ZeroMQ's own default high-water mark
RING_FRAMES_DEFAULT: Final = 1_024  # what a publisher keeps of each stream for repair
RING_BYTES_MAX: Final = 64 * MIB  # of all streams of one publisher together
STREAMS_MAX: Final = 100_000  # topics one publisher may open
PENDING_MESSAGES_MAX: Final = 65_536  # gathered and not yet handed to a socket, over all streams
PEERS_MAX: Final = 16_384  # clients one node remembers
OUTSTANDING_REQUESTS_MAX: Final = 4_096  # per client
REPLIES_PER_SESSION_MAX: Final = OUTSTANDING_REQUESTS_MAX  # a client may repeat all that it has outstanding
PEER_BACKLOG_FRAMES_MAX: Final = OUTSTANDING_REQUESTS_MAX  # answers that one peer's full queue has not taken yet
PEER_BACKLOG_BYTES_MAX: Final = 64 * MIB  # of all peers together
SERVICE_QUEUE_MAX: Final = 4_096  # requests waiting for one service
SESSIONS_MAX: Final = 65_536  # session table entries, least recently used leave first
REPLY_CACHE_BYTES_MAX: Final = 64 * MIB

# -- time (nanoseconds where the name says so, else seconds) ---------------------------------------------------
REQUEST_TIMEOUT_MAX_NS: Final = 3_600 * 10**9
HEARTBEAT_INTERVAL: Final = 1.0  # silence is noticed in three intervals
HEARTBEATS_MISSED_MAX: Final = 3

# -- journal ---------------------------------------------------------------------------------------------------
JOURNAL_SEGMENT_BYTES: Final = 64 * MIB  # as etcd's WAL segments
RECORD_BYTES_MAX: Final = BODY_BYTES_MAX  # a record is a command as it came in
JOURNAL_ALLOCATE_BYTES: Final = 4 * MIB  # space reserved ahead, so that few commits change the file's size (ADR 0002)
JOURNAL_ZERO_BYTES: Final = MIB  # zeroed ahead of small groups: fdatasync 205 us instead of 370 us at 4 KiB (ADR 0002)
JOURNAL_SMALL_GROUP_BYTES: Final = 16 * KIB  # larger groups do not earn back the zeroes
JOURNAL_READ_BYTES: Final = MIB  # one read while streaming; a record may take more
JOURNAL_JOIN_BYTES: Final = 16 * KIB  # payloads from here on are handed to the system as they are, not copied
STATE_FILE_BYTES_MAX: Final = MIB  # a state file is a name, an epoch, a watermark: read whole

# -- ledger ----------------------------------------------------------------------------------------------------
LEDGER_EVENTS_PER_BATCH_MAX: Final = 8_189  # TigerBeetle's batch: 1 MiB of 128-byte records less its header

assert FRAME_BYTES_MAX < 2**31
assert REPLIES_PER_SESSION_MAX >= OUTSTANDING_REQUESTS_MAX
assert PEER_BACKLOG_FRAMES_MAX >= OUTSTANDING_REQUESTS_MAX
assert LEDGER_EVENTS_PER_BATCH_MAX * 128 < RECORD_BYTES_MAX <= BODY_BYTES_MAX
assert RECORD_BYTES_MAX < JOURNAL_SEGMENT_BYTES
assert JOURNAL_SMALL_GROUP_BYTES < JOURNAL_ZERO_BYTES <= JOURNAL_ALLOCATE_BYTES <= JOURNAL_SEGMENT_BYTES
assert RING_BYTES_MAX >= FRAME_BYTES_MAX
assert BATCH_MESSAGES_DEFAULT <= MESSAGES_PER_FRAME_MAX
assert BATCH_BYTES_DEFAULT <= BODY_BYTES_MAX
assert TOPIC_BYTES_MAX < 256
