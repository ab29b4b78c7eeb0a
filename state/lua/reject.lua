-- reject: what does not make a job leaves the inbox, and its outcome is `invalid`.
-- ARGV: job id, reasons, seconds of retention, mailbox and email where they are known, else ''
-- Answers 1, or 0 when the job has an outcome already.
local job, reasons, retention, mailbox, email = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
leave_inbox(job)
if redis.call('EXISTS', key('outcome:' .. job)) == 1 then
  return 0
end
local now = now_us()
redis.call('HSET', key('outcome:' .. job), 'message', reasons, 'accepted', text(now))
if mailbox ~= '' then
  redis.call('HSET', key('outcome:' .. job), 'email', email, 'mailbox', mailbox)
end
finish(job, mailbox, nil, 'invalid', now, retention)
return 1
