// Starts the page.

import "./styles/tokens.css";
import "./styles/page.css";
import "./styles/parts.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { takeToken } from "./session/local.js";

takeToken();
// The announced address may be pasted into the open page, which is not loaded anew then.
addEventListener("hashchange", takeToken);

const target = document.getElementById("app");
if (target) mount(App, { target });
