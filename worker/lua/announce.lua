-- announce: which jobs have waited in the inbox for too long, so that their message may be lost.
-- ARGV: milliseconds that count as too long, how many to answer at most
-- Answers job ids; each is answered again only after as long a time.
local since = key('inbox:since')
local now = math.floor(now_us() / 1000)
-- An entry without a time was put there by something that died between two steps.
if redis.call('HLEN', key('inbox')) > redis.call('ZCARD', since) then
  for _, job in ipairs(redis.call('HRANDFIELD', key('inbox'), ARGV[2])) do
    redis.call('ZADD', since, 'NX', now, job)
  end
end
local jobs = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', since, '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])) do
  if redis.call('HEXISTS', key('inbox'), job) == 1 then
    redis.call('ZADD', since, now, job)
    jobs[#jobs + 1] = job
  else
    redis.call('ZREM', since, job) -- a time without an entry, likewise
  end
end
return jobs
