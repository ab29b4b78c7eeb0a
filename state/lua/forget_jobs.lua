-- forget_jobs: jobs of an email that is forgotten, which its mailbox and history do not list.
-- include: common inbox counts outcome forget
-- arg: inbox (ids of jobs there), settled (ids), lost (ids of records to which no mailbox points),
--   idempotency (hashes of keys: their digest of what was asked for goes), retention_s, keep_s
-- Answers { how many were canceled, how many outcomes had anything to forget }.
-- Safe to run twice: the second time there is nothing to forget.
write_although_full()
local done = { canceled = 0, changed = 0 }

local function forget(job, lane)
  local what = forget_job(job, lane)
  if what then
    done[what] = done[what] + 1
  end
end

for _, job in ipairs(arg.inbox) do
  local lane = leave_inbox_untaken(job)
  if redis.call('EXISTS', key('job:' .. job)) == 0 then -- else it is in the mailbox by now
    forget(job, lane)
  end
end
for _, job in ipairs(arg.settled) do
  if redis.call('EXISTS', key('outcome:' .. job)) == 1 then -- else it is replayed
    forget(job)
  end
end
for _, job in ipairs(arg.lost) do
  if redis.call('EXISTS', key('job:' .. job)) == 1 then
    forget(job)
  end
end
for _, hash in ipairs(arg.idempotency) do
  local first = redis.call('GET', key('idem:' .. hash))
  if first and #first > 36 then
    redis.call('SET', key('idem:' .. hash), string.sub(first, 1, 36), 'KEEPTTL')
  end
end
write_counts()
return { done.canceled, done.changed }
