/** Where a device stands in its user's update stream. */
export interface StreamPosition {
  epoch: string;
  /** The last offset that was handled. */
  offset: number;
}

/**
 * Follows the update stream: each offset is handled once, in order, without a hole.
 *
 * `judge` says what to do with an update: `handle` it; drop it as a `repeat`; or treat it as the far side of a `gap`,
 * which is healed by connecting again, because the server then sends everything after the position once more.
 */
export class UpdateCursor {
  #position: StreamPosition | undefined;

  /** What `hello` hands back as `resume`; undefined at first, and after `forget`. */
  get position(): StreamPosition | undefined {
    return this.#position;
  }

  /** After a welcome that did not resume: the stream goes on from here. */
  start(position: StreamPosition): void {
    this.#position = position;
  }

  judge(offset: number): "handle" | "repeat" | "gap" {
    if (this.#position === undefined || offset > this.#position.offset + 1) return "gap";
    return offset <= this.#position.offset ? "repeat" : "handle";
  }

  /** The update at `offset` is being handled. */
  advance(offset: number): void {
    if (this.#position !== undefined) this.#position = { epoch: this.#position.epoch, offset };
  }

  /** Next time, ask only for what is new. */
  forget(): void {
    this.#position = undefined;
  }
}
