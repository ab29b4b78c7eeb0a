-- take: jobs of the inbox for one worker to accept, live ones first; bulk has its share. No other worker
-- gets them meanwhile; those that are still there after a time are taken again, in their old order.
-- include: common clock inbox
-- arg: limit, within_us (until they may be taken again), bulk_share
-- Answers { job id, document, its entry in `inbox:taken`, … }. The entry tells lane and arrival. The document of
-- an arrival that has none is "": whoever published it is told so by the outcome.
read_clock()
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', key('inbox:taken'), '-inf', text(now.account))) do
  local lane, arrival, job = string.match(entry, '^(%a+) (%d+) (.*)$')
  redis.call('ZREM', key('inbox:taken'), entry)
  if job and redis.call('HEXISTS', key('inbox'), job) == 1 then
    redis.call('ZADD', key('inbox:' .. lane), arrival, job)
  end
end

local live, bulk = redis.call('ZCARD', key('inbox:live')), redis.call('ZCARD', key('inbox:bulk'))
local for_bulk = math.min(bulk, math.ceil(arg.limit * arg.bulk_share))
live = math.min(live, arg.limit - for_bulk)
bulk = math.min(bulk, arg.limit - live)

-- Another language's publisher writes the arrival itself, perhaps in milliseconds. A time ahead of all
-- others, or of no use, counts as now.
local YEAR_US = 366 * 24 * 3600 * 1000000
local latest = math.max(now.redis, last_arrival(now.redis))
local function arrival_of(score)
  score = tonumber(score)
  if score * 1000 <= latest and score * 1000 > latest - YEAR_US then
    score = score * 1000
  end
  return score <= latest and score > latest - YEAR_US and score or latest
end

local taken = {}
for _, lane in ipairs({ { 'live', live }, { 'bulk', bulk } }) do
  local found = lane[2] > 0
    and redis.call('ZRANGE', key('inbox:' .. lane[1]), 0, lane[2] - 1, 'WITHSCORES') or {}
  local jobs, until_us = {}, text(now.account + arg.within_us)
  for i = 1, #found, 2 do
    jobs[#jobs + 1] = found[i]
  end
  local documents = #jobs > 0 and redis.call('HMGET', key('inbox'), unpack(jobs)) or {}
  for n, job in ipairs(jobs) do
    if documents[n] or redis.call('EXISTS', key('job:' .. job), key('outcome:' .. job)) == 0 then
      local entry = lane[1] .. ' ' .. text(arrival_of(found[2 * n])) .. ' ' .. job
      redis.call('ZADD', key('inbox:taken'), until_us, entry)
      taken[#taken + 1] = job
      taken[#taken + 1] = documents[n] or ''
      taken[#taken + 1] = entry
    end
  end
  if #jobs > 0 then
    redis.call('ZREM', key('inbox:' .. lane[1]), unpack(jobs))
  end
end
return taken
