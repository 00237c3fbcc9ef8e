-- GET /jobs/{id}, or another path with a `%s` for the id: the whole document, as a page that has just been opened asks for it.

local common = require("common")
local format = string.format
local shape

function init(arguments)
    common.begin(arguments)
    shape = common.request("GET", arguments[4] or "/jobs/%s", {})
end

function request()
    return format(shape, common.id())
end
