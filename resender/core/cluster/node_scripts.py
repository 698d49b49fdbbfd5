"""The Lua scripts that keep the list of nodes in Redis. Pure texts.

Times are Redis' own, so that the clocks of nodes do not matter. Nodes that have gone without a word are remembered
for a while; a drained name stays drained until somebody says otherwise or Redis forgets.
"""

from __future__ import annotations

# The keys of both scripts: what nodes say (hash by id), when they said it (sorted set by id), who is drained (hash by
# name).
KEYS = ("nodes", "nodes:seen", "nodes:drained")
FORGET_MS = 600_000

# ARGV  1 id, or "" to read only  2 what it says, "" if nothing new  3 ms until a node that is gone is forgotten
# Returns  time now in ms, [id, ms when it last said so, what it said ...], [drained names ...]
BEAT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local forget = tonumber(ARGV[3])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], forget)
  redis.call('PEXPIRE', KEYS[2], forget)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - forget)) do
    redis.call('ZREM', KEYS[2], id)
    redis.call('HDEL', KEYS[1], id)
  end
end
local said = {}
local seen = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #seen, 2 do
  local text = redis.call('HGET', KEYS[1], seen[i])
  if text then
    said[#said + 1] = seen[i]
    said[#said + 1] = string.format('%d', tonumber(seen[i + 1]))
    said[#said + 1] = text
  end
end
return {string.format('%d', now), said, redis.call('HKEYS', KEYS[3])}
"""

# ARGV  1 id
LEAVE = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""

# ARGV  1 name  2 "1" to drain, else to take that back
# Returns  1 if that changed something
DRAIN = """
if ARGV[2] == '1' then
  return redis.call('HSET', KEYS[3], ARGV[1], '1')
end
return redis.call('HDEL', KEYS[3], ARGV[1])
"""
