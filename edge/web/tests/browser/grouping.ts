import assert from "node:assert/strict";
import type { Scenario } from "./scenario.ts";

export const grouping: Scenario[] = [
  {
    name: "a group is created, grows, changes roles and name, shrinks and ends; everybody sees each step",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      const cleo = await stage.signUp("Cleo");
      await ann.createGroup("Sailing", [ben]);
      await ann.seesLine("You created the group");
      await ann.say("Welcome :boat:");
      await ben.open("Sailing");
      await ben.seesLine("Ann created the group");
      await ben.sees("Welcome ⛵");

      const panel = await ann.details();
      await panel.getByRole("button", { name: "Add a member" }).click();
      await panel.locator("[name=find]").fill(cleo.username);
      await panel.getByRole("button", { name: "Add", exact: true }).click();
      await panel.locator(".member", { hasText: "Cleo" }).waitFor();
      await ben.seesLine("Ann added Cleo");
      await cleo.open("Sailing");
      await cleo.seesLine("Ann added you");
      await stage.screenshot(ann, "11-group-details");

      await ann.actOnMember("Ben", "Make an admin");
      await ben.seesLine("Ann made you an admin");
      await panel.locator(".member", { hasText: "Ben" }).locator(".role-admin").waitFor();

      const bensPanel = await ben.details();
      await bensPanel.getByRole("button", { name: "Rename" }).click();
      await bensPanel.locator(".rename input").fill("Sailing club");
      await bensPanel.locator(".rename input").press("Enter");
      await ann.seesLine("Ben renamed the group to “Sailing club”");
      await cleo.chatTitle("Sailing club").waitFor();

      await ben.actOnMember("Cleo", "Remove");
      await cleo.seesLine("Ben removed you");
      await cleo.page.locator(".chat-closed").waitFor();
      await cleo.page.locator("#message-input").waitFor({ state: "detached" });
      await cleo.row("Sailing club").waitFor({ state: "detached" });
      await stage.screenshot(cleo, "12-removed");

      await bensPanel.getByRole("button", { name: "Leave the group" }).click();
      await ben.confirm("Leave");
      await ann.seesLine("Ben left");
      await panel.locator(".details-card .chat-sub", { hasText: /^1 member/ }).waitFor();

      await panel.getByRole("button", { name: "Delete the group" }).click();
      await ann.confirm("Delete group");
      await ann.row("Sailing club").waitFor({ state: "detached" });
    },
  },
  {
    name: "in a group, two ticks mean everybody",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      const cleo = await stage.signUp("Cleo");
      await ann.createGroup("Three", [ben, cleo]);
      await cleo.row("Three").waitFor();
      await cleo.context.setOffline(true);
      await cleo.page.locator(".banner").waitFor();
      await ben.open("Three");
      await ann.say("who is in?");
      await ben.sees("who is in?");
      await ann.progress("who is in?", "sent");
      await cleo.context.setOffline(false);
      await ann.progress("who is in?", "delivered");
      await cleo.open("Three");
      await ann.progress("who is in?", "seen");
      await ann.message("who is in?").hover();
      await ann.message("who is in?").getByRole("button", { name: "Seen by" }).click();
      await ann.page.locator("dialog .member", { hasText: "Cleo" }).getByText("has seen it").waitFor();
    },
  },
  {
    name: "the owner passes the group on by leaving",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.createGroup("Heritage", [ben]);
      await ben.open("Heritage");
      const panel = await ann.details();
      await panel.getByRole("button", { name: "Leave the group" }).click();
      await ann.confirm("Leave");
      await ben.seesLine("Ann left");
      await ben.seesLine("You are now the owner");
      const bensPanel = await ben.details();
      await bensPanel.getByRole("button", { name: "Delete the group" }).waitFor();
    },
  },
  {
    name: "a chat that one leaves, or is removed from, goes from the list of every device at once",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.createGroup("Rowing", [ben]);
      await ann.createGroup("Chess", [ben]);
      await ben.row("Rowing").waitFor();
      await ben.row("Chess").waitFor();
      const bensPhone = await stage.signIn(ben);
      await bensPhone.open("Rowing");

      const panel = await ann.details();
      await panel.locator(".member", { hasText: "Ben" }).waitFor();
      await ann.actOnMember("Ben", "Remove");
      await ben.row("Chess").waitFor({ state: "detached" });
      await bensPhone.row("Chess").waitFor({ state: "detached" });

      await ben.open("Rowing");
      const bensPanel = await ben.details();
      await bensPanel.getByRole("button", { name: "Leave the group" }).click();
      await ben.confirm("Leave");
      await ben.row("Rowing").waitFor({ state: "detached" });
      await bensPhone.row("Rowing").waitFor({ state: "detached" });
      await bensPhone.page.locator(".chat-closed").waitFor();
      await bensPhone.page.reload();
      await bensPhone.page.getByText("This conversation is gone").waitFor();
      assert.equal(await ben.page.locator("a.row").count(), 0);

      await panel.getByRole("button", { name: "Add a member" }).click();
      await panel.locator("[name=find]").fill(ben.username);
      await panel.getByRole("button", { name: "Add", exact: true }).click();
      await ben.row("Chess").waitFor();
    },
  },
];
