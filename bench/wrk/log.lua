-- POST /jobs/{id}/logs: one line, of the length and kind that ffmpeg writes while it works.

local common = require("common")
local BODY = '{"line":"frame=%s fps=24 q=28.0 size=1024KiB time=00:00:41.08 bitrate=204.2kbits/s speed=1.21x"}'
local format = string.format
local shape

function init(arguments)
    common.begin(arguments)
    local _, mark = common.mark()
    shape = common.request("POST", "/jobs/%s/logs", {}, BODY, #format(BODY, mark))
end

function request()
    local _, mark = common.mark()
    return format(shape, common.id(), mark)
end
