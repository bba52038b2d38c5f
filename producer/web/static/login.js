import { translate } from "/static/i18n.js";

translate();
document.getElementById("wrong").hidden = !location.search.includes("wrong");
