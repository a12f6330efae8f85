import type { Browser, BrowserContextOptions } from "playwright-core";
import { Person } from "./person.ts";
import { type Program, RESULTS } from "./program.ts";

/** A named test. */
export interface Scenario {
  name: string;
  run: (stage: Stage) => Promise<void>;
}

/** What a scenario plays on: a browser, the program, and the people that it brings in. */
export class Stage {
  readonly browser: Browser;
  readonly program: Program;
  readonly #people: Person[] = [];

  constructor(browser: Browser, program: Program) {
    this.browser = browser;
    this.program = program;
  }

  async signUp(name: string, options: BrowserContextOptions = {}): Promise<Person> {
    return this.#add(await Person.signUp(this.browser, this.program.url, name, options));
  }

  async signIn(person: Person, options: BrowserContextOptions = {}): Promise<Person> {
    return this.#add(await person.elsewhere(this.browser, this.program.url, options));
  }

  async screenshot(person: Person, name: string): Promise<void> {
    await person.page.screenshot({ path: `${RESULTS}${name}.png`, animations: "disabled" });
  }

  /** Closes all browsers; fails if a page complained. */
  async clear(failed: string | undefined): Promise<void> {
    for (const person of this.#people) {
      if (failed !== undefined) await this.screenshot(person, `failed-${failed.replaceAll(/\W+/g, "-")}-${person.name}`).catch(() => {});
      await person.leave().catch(() => {});
    }
    const complaints = this.#people.flatMap((person) => person.complaints);
    this.#people.length = 0;
    if (failed === undefined && complaints.length > 0) throw new Error(`the page complained: ${complaints.join("; ")}`);
  }

  #add(person: Person): Person {
    this.#people.push(person);
    return person;
  }
}
