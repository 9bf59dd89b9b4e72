"""What Redis does in one step each: scripts that run without anything in between (Redis manual, "EVAL").

Keys, behind the prefix: `epoch` and `position` of the projection; `status:<id>` a hash of `v` (the sequence up to which
it is true) and `row` (JSON; missing where the row has changed since); `counters:<id>` a hash of `v` and the counters.
"""

from __future__ import annotations

from typing import Final

APPLY: Final = """
local p, epoch, before, after = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('GET', p .. 'epoch') ~= epoch then return {'epoch', 0} end
local at = tonumber(redis.call('GET', p .. 'position') or '-1')
if at ~= before then return {'at', at} end
for n = 5, #ARGV do
  local e = cjson.decode(ARGV[n])
  if e.counts then
    local status, counters = p .. 'status:' .. e.stream, p .. 'counters:' .. e.stream
    local known = tonumber(redis.call('HGET', status, 'v') or '0')
    if known < e.sequence then
      redis.call('HSET', status, 'v', e.sequence)
      redis.call('HDEL', status, 'row')
      redis.call('EXPIRE', status, 600)
    end
    local counted = tonumber(redis.call('HGET', counters, 'v') or '0')
    if counted == e.sequence - 1 then
      for name, count in pairs(e.counts) do redis.call('HINCRBY', counters, name, count) end
      redis.call('HSET', counters, 'v', e.sequence)
    elseif counted < e.sequence then
      redis.call('DEL', counters)
    end
    redis.call('PUBLISH', p .. 'pipeline:' .. e.stream, e.notice)
  end
  redis.call('PUBLISH', p .. 'events', e.notice)
end
redis.call('SET', p .. 'position', after)
return {'done', after}
"""
"""prefix, epoch, the position it must be at, the one it gets to, events as JSON. Rows that changed are forgotten, their
`v` is kept for longer than any reader takes, counters go up, notices go out; the position moves with all of it."""

SEED: Final = """
local p = ARGV[1]
if redis.call('EXISTS', p .. 'epoch') == 1 then return 0 end
redis.call('SET', p .. 'position', ARGV[3])
redis.call('SET', p .. 'epoch', ARGV[2])
return 1
"""
"""prefix, a new epoch, a position: the projection begins here, unless another process has begun it."""

FILL: Final = """
local p, key = ARGV[1], ARGV[1] .. 'status:' .. ARGV[3]
if redis.call('GET', p .. 'epoch') ~= ARGV[2] then return 0 end
if tonumber(redis.call('HGET', key, 'v') or '0') > tonumber(ARGV[4]) then return 0 end
redis.call('HSET', key, 'v', ARGV[4], 'row', ARGV[5])
redis.call('EXPIRE', key, ARGV[6])
return 1
"""
"""prefix, the epoch in which the row was read, pipeline, its sequence, the row, seconds to keep it. Refused where an
event after it has been told of already, or where Redis has begun anew since."""

LOOK: Final = """
local p = ARGV[1]
local epoch = redis.call('GET', p .. 'epoch')
if not epoch then return {'', ''} end
return {epoch, redis.call('HGET', p .. 'status:' .. ARGV[2], 'row') or ''}
"""
"""prefix, pipeline: the epoch and the row that is kept, each empty where there is none."""
