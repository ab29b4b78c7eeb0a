-- claim: reserves the time of a stint's next request, or claims the email for which it leaves now.
-- include: common clock mailbox counts outcome pace held next
-- arg: retention_s, keep_s (of outcomes), next (see _next.lua)
-- Answers the next delivery, as JSON.
read_clock()
local found = next_delivery(arg.next)
write_pace()
write_counts()
return cjson.encode(found)
