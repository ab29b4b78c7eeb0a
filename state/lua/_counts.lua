-- What is counted, over all workers and restarts.
-- `counts` is a hash: field → how many since the account began. Four are no counts: `minute`, of the last
-- copy; `delivered_at`, Redis's time of the last delivered job; `before` and `lately`, two times of Redis, at
-- least ten seconds apart, each with what `delivered` was then. state/counts.py and status.lua read them.
--   delivered                       jobs
--   jobs:<lane>:<status>:<reason>   jobs that were settled so
--   attempts:<class>                requests that were answered, or not
--   latency:<bucket>, latency:us    of those: in the histogram's buckets, and microseconds in all
--   delay:<lane>:<bucket>, …:us     of delivered jobs: from enqueueing to the answer
-- `counts:<minute>` is a copy from before anything was counted in that minute. So what was counted
-- since then is the difference, for all fields.
local COPIES_S = 70 * 60
local SHORT_US, LONG_US = 10 * 1000000, 60 * 1000000 -- between `before` and `lately`; a longer silence
local BOUNDS_US = { 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
  30000000, 60000000, 300000000, 1800000000, 7200000000, 86400000000 }

local counted, noted = {}, {} -- to be written by `write_counts`

local function count(field, by)
  counted[field] = (counted[field] or 0) + (by or 1)
end

-- `family` is a histogram's name.
local function count_time(family, us)
  local bucket = #BOUNDS_US + 1
  for n, bound in ipairs(BOUNDS_US) do
    if us <= bound then
      bucket = n
      break
    end
  end
  count(family .. ':' .. bucket)
  count(family .. ':us', us)
end

-- Notes how many were delivered by now, some seconds after it was noted the last time.
local function note_rate(before, lately, delivered)
  local at_us = tonumber(string.match(lately or '', '^%d+'))
  local passed = at_us and now.redis - at_us
  if not passed or passed < 0 or passed > LONG_US then
    noted.before, noted.lately = nil, nil
    before, lately = nil, nil
  elseif passed < SHORT_US then
    return
  end
  noted.lately = text(now.redis) .. ' ' .. delivered
  noted.before = lately or noted.lately
end

local function write_counts()
  local names = { 'minute', 'before', 'lately', 'delivered' }
  for name in pairs(counted) do
    names[#names + 1] = name
  end
  if #names == 4 then
    return
  end
  local found = redis.call('HMGET', key('counts'), unpack(names))
  local minute, fields = text(math.floor(now.redis / 60000000)), {}
  if found[1] ~= minute then
    local copy = key('counts:' .. minute)
    local before = found[1] and redis.call('HGETALL', key('counts')) or { 'minute', '0' }
    redis.call('DEL', copy)
    in_slices('HSET', copy, before)
    redis.call('EXPIRE', copy, COPIES_S)
    fields = { 'minute', minute }
  end
  if counted.delivered then
    note_rate(found[2], found[3], found[4] or '0')
  end
  for n = 5, #names do
    fields[#fields + 1] = names[n]
    fields[#fields + 1] = text((tonumber(found[n]) or 0) + counted[names[n]])
  end
  for name, content in pairs(noted) do
    fields[#fields + 1] = name
    fields[#fields + 1] = content
  end
  redis.call('HSET', key('counts'), unpack(fields))
  counted, noted = {}, {}
end
