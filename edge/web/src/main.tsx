import { render } from "preact";
import { App } from "./ui/app/app.tsx";
import "./ui/styles/tokens.css";
import "./ui/styles/base.css";
import "./ui/styles/controls.css";
import "./ui/styles/auth.css";
import "./ui/styles/shell.css";
import "./ui/styles/sidebar.css";
import "./ui/styles/chat.css";
import "./ui/styles/messages.css";
import "./ui/styles/composer.css";
import "./ui/styles/dialogs.css";

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
