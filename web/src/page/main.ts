// Starts the page.

import "./styles/tokens.css";
import "./styles/page.css";
import "./styles/parts.css";
import { mount } from "svelte";
import App from "./App.svelte";

const target = document.getElementById("app");
if (target) mount(App, { target });
