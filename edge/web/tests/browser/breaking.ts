import assert from "node:assert/strict";
import type { Person } from "./person.ts";
import type { Scenario } from "./scenario.ts";

/** Both see the same, each text once. */
async function agree(left: Person, right: Person, expected: readonly string[]): Promise<void> {
  for (const text of expected) await Promise.all([left.sees(text), right.sees(text)]);
  const [one, other] = [await left.texts(), await right.texts()];
  assert.deepEqual(one, other, "the order is the same for everyone");
  assert.deepEqual([...one].sort(), [...expected].sort(), "nothing is lost, nothing is repeated");
}

export const breaking: Scenario[] = [
  {
    name: "offline: what one writes waits and goes out in order; what others wrote meanwhile arrives",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.say("before");
      await ben.open("Ann");
      await ben.sees("before");

      await ann.context.setOffline(true);
      await ann.page.locator(".banner").waitFor();
      for (const text of ["offline one", "offline two", "offline three"]) await ann.say(text);
      await ann.progress("offline three", "pending");
      await stage.screenshot(ann, "7-offline");
      await ben.say("while you were away");
      await ben.progress("while you were away", "sent");

      await ann.context.setOffline(false);
      await ann.page.locator(".banner").waitFor({ state: "detached" });
      await agree(ann, ben, ["before", "while you were away", "offline one", "offline two", "offline three"]);
      await ann.progress("offline three", "seen");
      const texts = (await ben.texts()).filter((text) => text.startsWith("offline"));
      assert.deepEqual(texts, ["offline one", "offline two", "offline three"]);
    },
  },
  {
    name: "kill -9 in the middle of a chat: nothing is lost, repeated or out of order",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.say("ann 0");
      await ben.open("Ann");
      await ben.sees("ann 0");
      const expected = ["ann 0"];
      for (let round = 1; round <= 3; round += 1) {
        for (const person of [ann, ben]) {
          const text = `${person.name.toLowerCase()} ${round} just before`;
          expected.push(text);
          await person.say(text);
        }
        await stage.program.kill();
        for (const person of [ben, ann]) {
          const text = `${person.name.toLowerCase()} ${round} while it is down`;
          expected.push(text);
          await person.say(text);
          await person.progress(text, "pending");
        }
        if (round === 1) {
          await ann.page.locator(".banner").waitFor();
          await stage.screenshot(ann, "8-server-killed");
        }
        await stage.program.up();
        await agree(ann, ben, expected);
      }
      await ann.progress("ann 3 while it is down", "seen");
      await stage.screenshot(ben, "9-after-three-kills");
      await ann.page.reload();
      await ann.chatTitle("Ben").waitFor();
      await agree(ann, ben, expected);
    },
  },
  {
    name: "kill -9 in a burst from both sides: each message once, each sender's in the order of writing",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ben.open("Ann");
      const burst = async (person: Person, from: number, to: number): Promise<string[]> => {
        const texts = Array.from({ length: to - from }, (_, index) => `${person.name} ${from + index}`);
        for (const text of texts) await person.say(text);
        return texts;
      };
      const early = await Promise.all([burst(ann, 0, 12), burst(ben, 0, 12)]);
      // The last of them are on their way: some durable, some acknowledged, some neither.
      await stage.program.kill();
      const late = await Promise.all([burst(ann, 12, 20), burst(ben, 12, 20)]);
      await stage.program.up();
      await agree(ann, ben, [...early, ...late].flat());
      const texts = await ann.texts();
      for (const person of [ann, ben]) {
        const own = texts.filter((text) => text.startsWith(person.name));
        assert.deepEqual(own, Array.from({ length: 20 }, (_, index) => `${person.name} ${index}`));
      }
    },
  },
  {
    name: "the server is restarted in good order: everybody is back by themselves, and nothing is missing",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.say("before");
      await ben.open("Ann");
      await ben.sees("before");
      await stage.program.goAway();
      await ben.say("in between");
      await stage.program.up();
      await agree(ann, ben, ["before", "in between"]);
      await ann.say("after");
      await agree(ann, ben, ["before", "in between", "after"]);
      await ann.page.locator(".chat-sub", { hasText: "online" }).waitFor();
    },
  },
  {
    name: "what was written offline survives closing the page",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.startChat(ben);
      await ann.say("before");
      await ann.progress("before", "delivered");
      await stage.program.kill();
      await ann.say("written into the void");
      await ann.progress("written into the void", "pending");
      await ann.page.goto("about:blank");
      await stage.program.up();
      await ann.page.goto(stage.program.url);
      await ben.open("Ann");
      await ben.sees("written into the void");
      await ann.open("Ben");
      await ann.progress("written into the void", "seen");
    },
  },
  {
    name: "a message that is refused for good says so, and can be deleted",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.createGroup("Club", [ben]);
      await ben.open("Club");
      await ben.say("hello club");
      await ann.sees("hello club");
      await ben.context.setOffline(true);
      await ben.page.locator(".banner").waitFor();
      await ben.say("too late");
      await ben.progress("too late", "pending");
      await ann.details();
      await ann.actOnMember("Ben", "Remove");
      await ann.seesLine("You removed Ben");
      await ben.context.setOffline(false);
      await ben.progress("too late", "failed");
      await ben.message("too late").locator(".failure", { hasText: "Not sent" }).waitFor();
      await ben.page.locator(".chat-closed").waitFor();
      await stage.screenshot(ben, "10-failed-for-good");
      await ben.message("too late").getByRole("button", { name: "Delete" }).click();
      await ben.message("too late").waitFor({ state: "detached" });
    },
  },
  {
    name: "a message that is refused when its chat is gone is shown all the same",
    async run(stage) {
      const ann = await stage.signUp("Ann");
      const ben = await stage.signUp("Ben");
      await ann.createGroup("Short-lived", [ben]);
      await ben.open("Short-lived");
      await ben.context.setOffline(true);
      await ben.page.locator(".banner").waitFor();
      await ben.say("is anybody there?");
      await ben.progress("is anybody there?", "pending");
      await ann.details();
      await ann.page.getByRole("button", { name: "Delete the group" }).click();
      await ann.confirm("Delete group");
      await ann.row("Short-lived").waitFor({ state: "detached" });
      await ben.context.setOffline(false);
      await ben.page.locator(".stranded", { hasText: "is anybody there?" }).waitFor();
      await ben.page.getByRole("button", { name: "Dismiss" }).click();
      await ben.page.locator(".stranded").waitFor({ state: "detached" });
    },
  },
];
