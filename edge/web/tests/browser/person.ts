import type { Browser, BrowserContext, BrowserContextOptions, Locator, Page } from "playwright-core";

const PASSWORD = "correct horse";
let people = 0;

/** Somebody with a browser of their own. */
export class Person {
  readonly name: string;
  readonly username: string;
  readonly context: BrowserContext;
  readonly page: Page;
  /** What the page complained about. */
  readonly complaints: string[] = [];

  private constructor(name: string, username: string, context: BrowserContext, page: Page) {
    this.name = name;
    this.username = username;
    this.context = context;
    this.page = page;
    page.on("pageerror", (error) => this.complaints.push(String(error)));
  }

  /** Opens the page and makes an account. */
  static async signUp(browser: Browser, url: string, name: string, options: BrowserContextOptions = {}): Promise<Person> {
    people += 1;
    const username = `${name.toLowerCase().split(" ")[0]}${people}`;
    const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, ...options });
    const page = await context.newPage();
    const person = new Person(name, username, context, page);
    await page.goto(url);
    await page.getByRole("tab", { name: "Create account" }).click();
    await page.locator("[name=username]").fill(username);
    await page.locator("[name=display_name]").fill(name);
    await page.locator("[name=password]").fill(PASSWORD);
    await page.locator("button[type=submit]").click();
    await page.locator(".sidebar-me").waitFor();
    return person;
  }

  /** The same account in one more browser. */
  async elsewhere(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Person> {
    const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, ...options });
    const page = await context.newPage();
    const person = new Person(this.name, this.username, context, page);
    await page.goto(url);
    await page.locator("[name=username]").fill(this.username);
    await page.locator("[name=password]").fill(PASSWORD);
    await page.locator("button[type=submit]").click();
    await page.locator(".sidebar-me").waitFor();
    return person;
  }

  /** Starts a direct chat. */
  async startChat(other: Person): Promise<void> {
    await this.page.locator(".sidebar").getByRole("button", { name: "New chat" }).click();
    await this.page.locator("dialog [name=find]").fill(`@${other.username}`);
    await this.page.locator("dialog button[type=submit]").click();
    await this.chatTitle(other.name).waitFor();
  }

  /** Makes a group and goes there. */
  async createGroup(title: string, others: readonly Person[]): Promise<void> {
    await this.page.getByRole("button", { name: "New group" }).click();
    await this.page.locator("dialog [name=title]").fill(title);
    for (const other of others) {
      await this.page.locator("dialog [name=find]").fill(other.username);
      await this.page.locator("dialog").getByRole("button", { name: "Add", exact: true }).click();
      await this.page.locator(".chip", { hasText: other.name }).waitFor();
    }
    await this.page.getByRole("button", { name: "Create group" }).click();
    await this.chatTitle(title).waitFor();
  }

  row(title: string): Locator {
    return this.page.locator("a.row", { has: this.page.locator(".row-title", { hasText: exactly(title) }) });
  }

  chatTitle(title: string): Locator {
    return this.page.locator(".chat-names h2", { hasText: exactly(title) });
  }

  async open(title: string): Promise<void> {
    await this.row(title).click();
    await this.chatTitle(title).waitFor();
  }

  async say(text: string): Promise<void> {
    await this.page.locator("#message-input").fill(text);
    await this.page.locator("#message-input").press("Enter");
  }

  /** The message with that text, and no more than it. */
  message(text: string): Locator {
    return this.page.locator(".message", { has: this.page.locator(".bubble-text", { hasText: exactly(text) }) });
  }

  async sees(text: string): Promise<void> {
    await this.message(text).first().waitFor();
  }

  /** Waits until one's own message has come so far. */
  async progress(text: string, progress: "pending" | "failed" | "sent" | "delivered" | "seen"): Promise<void> {
    await this.message(text).locator(`[data-progress=${progress}]`).waitFor();
  }

  async seesLine(text: string): Promise<void> {
    await this.page.locator(".membership", { hasText: text }).first().waitFor();
  }

  /** All texts of the open chat, from top to bottom. */
  texts(): Promise<string[]> {
    return this.page.locator(".message .bubble-text").allInnerTexts();
  }

  async details(): Promise<Locator> {
    await this.page.getByRole("button", { name: "Details", exact: true }).click();
    const panel = this.page.locator(".details");
    await panel.waitFor();
    return panel;
  }

  /** Does something from the menu of a member in the details. */
  async actOnMember(name: string, action: string): Promise<void> {
    await this.page.getByRole("button", { name: `Actions for ${name}` }).click();
    await this.page.locator(".member-actions").getByRole("button", { name: action, exact: true }).click();
  }

  async confirm(action: string): Promise<void> {
    await this.page.locator("dialog[open]").getByRole("button", { name: action, exact: true }).click();
  }

  async signOut(where: "Here" | "Everywhere"): Promise<void> {
    await this.page.getByRole("button", { name: "Sign out" }).click();
    await this.confirm(where);
  }

  /** The token that the browser keeps. */
  async token(): Promise<string> {
    const account = await this.page.evaluate(() => localStorage.getItem("tidings.account"));
    return (JSON.parse(account ?? "{}") as { token: string }).token;
  }

  async leave(): Promise<void> {
    await this.context.close();
  }
}

function exactly(text: string): RegExp {
  return new RegExp(`^\\s*${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}\\s*$`);
}
