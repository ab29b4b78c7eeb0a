-- How far an account's hooks have come. Only the relay that holds the lease moves on.
-- `hooks` is a hash:
--   owner, until                   of the lease; the latter in account time
--   outcomes, events               the last entries of these streams that are done
--   handled                        how many jobs were settled up to the former
--   events_n, missed               `n` of the last event that is done, and of the first one after a gap
--   caught_up                      the account time at which nothing was left
--   taken, taken_at                how many events the receiver took, and when the last one
--   failing_since, error, error_at while it takes nothing
--   gone, notice, dropped          what was dropped: not told yet, told now, how many in all
--   batch                          the last ones that were counted as dropped
-- `hooks:aside` is a hash of events that the receiver refused, and of those of the same email behind
-- them: `o` or `e` and the entry's id → JSON { since (account time), failures, fields (of the entry) }.
local hooks, aside = key('hooks'), key('hooks:aside')

-- How many jobs were settled since the account began, or nil where nobody counts them.
local function settled_jobs()
  local counts, total = redis.call('HGETALL', key('counts')), 0
  for i = 1, #counts, 2 do
    if string.sub(counts[i], 1, 5) == 'jobs:' then
      total = total + tonumber(counts[i + 1])
    end
  end
  return #counts > 0 and total or nil
end

local function last_id(stream)
  local last = redis.call('XREVRANGE', key(stream), '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0', last and last[2] or {}
end

local function milliseconds(id)
  return tonumber(string.match(id, '^%d+'))
end

-- `counts`: status, or 'event', or 'unknown' → how many. Times are Redis's, in milliseconds.
local function note_dropped(counts, from_ms, to_ms)
  local gone = cjson.decode(redis.call('HGET', hooks, 'gone') or '{"counts":{}}')
  local all = 0
  for status, count in pairs(counts) do
    gone.counts[status] = (gone.counts[status] or 0) + count
    all = all + count
  end
  if all > 0 then
    gone.from = math.min(gone.from or from_ms, from_ms)
    gone.to = math.max(gone.to or to_ms, to_ms)
    redis.call('HSET', hooks, 'gone', cjson.encode(gone))
    redis.call('HINCRBY', hooks, 'dropped', all)
  end
end
