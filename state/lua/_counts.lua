-- What is counted, over all workers and restarts.
-- `counts` is a hash: field → how many since the account began, and three that are no counts: `minute`,
-- of the last copy; `delivered_at`, Redis's time of the last delivered job. state/counts.py reads them.
--   jobs:<lane>:<status>:<reason>   jobs that were settled so
--   attempts:<class>                requests that were answered, or not
--   latency:<bucket>, latency:us    of those: in the histogram's buckets, and microseconds in all
--   delay:<lane>:<bucket>, …:us     of delivered jobs: from enqueueing to the answer
-- `counts:<minute>` is a copy from before anything was counted in that minute. So what was counted
-- since then is the difference, for all fields.
local COPIES_S = 70 * 60
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

local function write_counts()
  local names = { 'minute' }
  for name in pairs(counted) do
    names[#names + 1] = name
  end
  if #names == 1 then
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
  for n = 2, #names do
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
