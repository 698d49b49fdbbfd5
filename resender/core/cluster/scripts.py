"""The Lua scripts Redis runs: what must not be torn apart between two nodes. Pure texts.

Windows are minutes of Binance's clock, counted from 1970, as each node knows them. A node that cannot ask may spend
its part by itself (`Fallback`); whoever asks meanwhile is granted nothing of that part. A Redis that has lost its
memory grants each node its own part only until all parts are known again.
"""

from __future__ import annotations

# How many windows a node that says nothing is counted on: it may still spend its part by itself.
FORGET_WINDOWS = 60
WINDOW_TTL_MS = 300_000

# KEYS  1 slots of the address (hash: node -> "window fallback permille")  2 this memory of it (hash: id, born, lost)
# ARGV  1 node  2 window now  3 last window of own fallback  4 permille the node holds, -1 if it was never told one
#       5 windows until forgotten
#       6 permille all may hold together  7 id of the memory the installation had last, empty if none
#       8 id of this memory, if it is new  9 permille the node held in that last one
_SLOTS = """
local function read(text)
  local window, fallback, permille = string.match(text, '^(%-?%d+) (%-?%d+) (%d+)$')
  return tonumber(window), tonumber(fallback), tonumber(permille)
end
local node, now, used, told = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local held = math.max(0, told)
local forget, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local others, taken = 0, 0
local slots = redis.call('HGETALL', KEYS[1])
for i = 1, #slots, 2 do
  if slots[i] ~= node then
    local window, _, permille = read(slots[i + 1])
    if window + forget < now then
      redis.call('HDEL', KEYS[1], slots[i])
    else
      others, taken = others + 1, taken + permille
    end
  end
end
local before = redis.call('HGET', KEYS[1], node)
redis.call('HSETNX', KEYS[2], 'born', now)
redis.call('HSETNX', KEYS[2], 'id', ARGV[8])
local id = redis.call('HGET', KEYS[2], 'id')
if told < 0 and ARGV[7] ~= '' and ARGV[7] ~= id then
  -- A node that was started anew: what the others hold is not known here, of itself it knows.
  told = tonumber(ARGV[9])
  held = told
end
if told >= 0 and not before then
  -- It holds a part of which nothing is known here: this memory is younger than that.
  redis.call('HSET', KEYS[2], 'lost', '1')
end
local born = tonumber(redis.call('HGET', KEYS[2], 'born'))
local is_lost = redis.call('HGET', KEYS[2], 'lost') == '1'
if is_lost and (taken + held >= most - others - 1 or now > born + forget) then
  redis.call('HSET', KEYS[2], 'lost', '2')
  is_lost = false
end
local has_lost = redis.call('HGET', KEYS[2], 'lost')
local mine = held
if not is_lost then
  mine = math.max(0, math.min(math.floor(most / (others + 1)), most - taken))
end
if before then
  local window, fallback = read(before)
  now, used = math.max(now, window), math.max(used, fallback)
end
-- What the node still holds counts until it has heard of less.
redis.call('HSET', KEYS[1], node, string.format('%d %d %d', now, used, math.max(held, mine)))
"""
# ARGV  10 "1" to leave for good
# Returns  the permille this node holds from now on, the number of nodes
CONTACT = (
    _SLOTS
    + """
if ARGV[10] == '1' then
  redis.call('HDEL', KEYS[1], node)
  if others == 0 then
    redis.call('DEL', KEYS[2])  -- nobody holds anything
  end
end
return {mine, others + 1}
"""
)

# KEYS  3 what has been granted in the window (hash: all, and by node)  4 epoch of the pool
# ARGV  10 window it is for  11 limit  12 what may be granted of it in all (weight)  13 at least  14 at most
#       15 used weight Binance has told  16 ttl in ms  17 what the node has been granted of that window
#       18 what of 12 may be granted for any call; the rest is for orders  19 "1" if only orders may use this block
# Returns  what is granted, the permille, the number of nodes, granted in all, the epoch, id of this memory, what is set
#          aside for nodes that cannot ask
TAKE = (
    _SLOTS
    + """
local wanted, limit, cap = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local least, up_to, seen = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local aside = 0
slots = redis.call('HGETALL', KEYS[1])
for i = 1, #slots, 2 do
  local window, fallback, permille = read(slots[i + 1])
  -- It may be spending by itself in that window, or has.
  if (slots[i] ~= node and window <= wanted - 2) or fallback >= wanted then
    aside = aside + math.floor(limit * permille / 1000)
  end
end
local granted = tonumber(redis.call('HGET', KEYS[3], 'all') or '0')
granted = math.max(granted, seen - aside)
local for_orders = tonumber(redis.call('HGET', KEYS[3], 'orders') or '0')
local room = cap - aside - granted
local block = math.floor(room / (2 * (others + 1)))
if ARGV[19] == '1' then
  -- More than orders need now only out of their own part: the rest is anybody's.
  block = math.min(block, math.max(0, cap - tonumber(ARGV[18]) - for_orders))
else
  room = math.min(room, tonumber(ARGV[18]) - aside - (granted - for_orders))
  block = math.floor(room / (2 * (others + 1)))
end
local give = math.min(up_to, math.max(least, block), room)
local own = tonumber(redis.call('HGET', KEYS[3], node) or '0')
local missing = math.max(0, tonumber(ARGV[17]) - own)
granted, own = granted + missing, own + missing
-- Right after its memory was lost nobody knows what others hold of the next window: each within its own part.
if is_lost or (has_lost and wanted <= born + 1) then
  give = math.min(give, math.floor(limit * held / 1000) - own)
end
if give < least or used >= wanted or (has_lost and wanted <= born) then
  give = 0
end
redis.call('HSET', KEYS[3], 'all', granted + give)
redis.call('HSET', KEYS[3], node, own + give)
if ARGV[19] == '1' then
  redis.call('HSET', KEYS[3], 'orders', for_orders + give)
end
redis.call('PEXPIRE', KEYS[3], ARGV[16])
return {give, mine, others + 1, granted + give, redis.call('GET', KEYS[4]) or '0', id, aside}
"""
)

# KEYS  1 ban of the pool (text: status until)  2 epoch
# ARGV  1 status  2 until (epoch ms of Binance)  3 ttl in ms
# Returns  the epoch
BAN = """
local before = redis.call('GET', KEYS[1])
local status, till = ARGV[1], tonumber(ARGV[2])
if before then
  local old, old_till = string.match(before, '^(%d+) (%d+)$')
  till = math.max(till, tonumber(old_till))
  if old == '418' then
    status = old
  end
end
redis.call('SET', KEYS[1], status .. ' ' .. string.format('%d', till), 'PX', ARGV[3])
return redis.call('INCR', KEYS[2])
"""
