-- GET /jobs/{id} with If-None-Match: a poll that finds the version it has already, which is the first.

local common = require("common")
local format = string.format
local shape

function init(arguments)
    common.begin(arguments)
    shape = common.request("GET", "/jobs/%s", { 'If-None-Match: "v1"' })
end

function request()
    return format(shape, common.id())
end
