import { createRoot } from "react-dom/client";
import { App } from "./App";
import "@xyflow/react/dist/style.css";
import "./styles/tokens.css";
import "./styles/app.css";
import "./styles/controls.css";
import "./styles/canvas.css";
import "./styles/card.css";
import "./styles/panels.css";
import "./styles/dialogs.css";

const root = document.getElementById("root");
if (root) createRoot(root).render(<App />);
