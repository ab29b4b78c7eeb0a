-- reject: what does not make a job leaves the inbox, and its outcome is `invalid`.
-- include: common inbox counts outcome
-- arg: reason (its class), retention_s, keep_s, and where they are known: mailbox, email
-- ARGV[2], …: job id, its entry in `inbox:taken`, the reasons (any text)
-- Answers 1, or 0 when the job has an outcome already.
local job, taken, reasons = ARGV[2], ARGV[3], ARGV[4]
leave_inbox(job, taken)
if redis.call('EXISTS', key('job:' .. job), key('outcome:' .. job)) > 0 then
  return 0
end
local fields = { message = reasons, email = arg.email, accepted = text(now.redis), reason = arg.reason }
settle_job(job, arg.mailbox, 'invalid', fields, string.match(taken, '^bulk ') and 'bulk' or 'live')
write_email(arg.mailbox)
write_counts()
return 1
