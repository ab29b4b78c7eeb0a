-- upgrade: a mailbox of release 0.1.0, whose values had their versions with them, becomes one of today.
-- ARGV: mailbox
-- Answers 1 when it was one, else 0. Safe beside workers of today: they leave such a mailbox alone.
local mailbox = ARGV[1]
local box, pending = key('mailbox:' .. mailbox), key('pending:' .. mailbox)
if redis.call('HEXISTS', box, '@email') == 0 then
  return 0
end
local jobs, fields = redis.call('HGETALL', pending), redis.call('HGETALL', box)
local numbers = {}
for i = 1, #jobs, 2 do
  local job, number = jobs[i], (i + 1) / 2
  local occurred = redis.call('HGET', key('outcome:' .. job), 'occurred')
  numbers[job] = number
  redis.call('HSET', box, '#' .. number, occurred .. job .. jobs[i + 1])
end
for i = 1, #fields, 2 do
  if is_value(fields[i]) then
    local number = numbers[job_of(fields[i + 1])]
    redis.call('HSET', box, fields[i], number .. after_version(fields[i + 1]))
  elseif fields[i] == '@lane' and fields[i + 1] == 'live' then
    redis.call('HSET', box, '@live', 1)
  end
end
redis.call('HSET', box, '@next', #jobs / 2 + 1)
redis.call('HDEL', box, '@email', '@lane')
redis.call('DEL', pending)
if redis.call('HEXISTS', key('leases'), mailbox) == 0 then
  make_due(mailbox, now_us())
end
return 1
