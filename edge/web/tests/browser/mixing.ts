import assert from "node:assert/strict";
import type { Scenario } from "./scenario.ts";
import { Terminal } from "./terminal.ts";

export const mixing: Scenario[] = [
  {
    name: "two browsers and a terminal chat in one group, and go on after a kill",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      const terminal = new Terminal(stage.program.url, `tess${Date.now()}`);
      try {
        await terminal.prints("/help");
        await ann.createGroup("Harbour", [ben]);
        const panel = await ann.details();
        await panel.getByRole("button", { name: "Add a member" }).click();
        await panel.locator("[name=find]").fill(terminal.username);
        await panel.getByRole("button", { name: "Add", exact: true }).click();
        await panel.locator(".member", { hasText: terminal.username }).waitFor();
        await ben.open("Harbour");
        terminal.type("/list");
        await terminal.prints("Harbour");
        terminal.type("/open 1");

        const said: string[] = [];
        const everybody = async (text: string): Promise<void> => {
          said.push(text);
          await Promise.all([ann.sees(text), ben.sees(text), terminal.prints(text)]);
        };
        await ann.say("ann: who is on deck?");
        await everybody("ann: who is on deck?");
        terminal.type("tess: me, from a terminal");
        await everybody("tess: me, from a terminal");
        await ben.say("ben: and me");
        await everybody("ben: and me");
        await ann.progress("ann: who is on deck?", "seen");
        await stage.screenshot(ann, "30-two-browsers-and-a-terminal");

        await stage.program.kill();
        await ann.say("ann: said while it was down");
        await stage.program.up();
        await everybody("ann: said while it was down");
        terminal.type("tess: back again");
        await everybody("tess: back again");

        assert.deepEqual(await ann.texts(), said);
        assert.deepEqual(await ben.texts(), said);
        const places = said.map((text) => terminal.output.indexOf(text));
        assert.deepEqual(places, places.toSorted((one, other) => one - other), "the terminal has another order");
      } finally {
        await terminal.leave();
      }
    },
  },
];
