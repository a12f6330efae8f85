/** Times and days as people say them, in the browser's language for dates. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const shortWeekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const dayAndMonth = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const fullDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** The hour and minute. */
export function timeOfDay(millis: number): string {
  return clock.format(millis);
}

/** The whole date and time, for a tooltip. */
export function exactTime(millis: number): string {
  return fullTime.format(millis);
}

/** How many midnights lie between the two. */
export function daysBetween(earlier: number, later: number): number {
  const midnight = (millis: number): number => {
    const date = new Date(millis);
    return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  };
  return Math.round((midnight(later) - midnight(earlier)) / 86_400_000);
}

/** A day, over its messages. */
export function dayName(millis: number, now: number): string {
  const days = daysBetween(millis, now);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days > 1 && days < 7) return weekday.format(millis);
  return new Date(millis).getFullYear() === new Date(now).getFullYear() ? dayAndMonth.format(millis) : fullDate.format(millis);
}

/** A moment, as short as can be, for the list. */
export function shortMoment(millis: number, now: number): string {
  const days = daysBetween(millis, now);
  if (days === 0) return timeOfDay(millis);
  if (days === 1) return "Yesterday";
  return days > 1 && days < 7 ? shortWeekday.format(millis) : shortDate.format(millis);
}

/** When somebody was last seen. */
export function lastSeen(millis: number, now: number): string {
  const minutes = Math.floor((now - millis) / 60_000);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${minutes} ${minutes === 1 ? "minute" : "minutes"} ago`;
  const days = daysBetween(millis, now);
  if (days === 0) return `last seen today at ${timeOfDay(millis)}`;
  if (days === 1) return `last seen yesterday at ${timeOfDay(millis)}`;
  return days < 7 ? `last seen ${weekday.format(millis)} at ${timeOfDay(millis)}` : `last seen ${shortDate.format(millis)}`;
}
