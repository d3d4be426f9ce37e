// All frames of the trial: verdict, flag, residual, acceptance.

const HIGH_MM = 5; // a residual that fills its bar

const $ = (id) => document.getElementById(id);

export function showTimeline(state, send) {
  if (!state.frame) return;
  const { frames, trials } = state.trial;
  const options = trials.map(({ id, frames: count, accepted, flagged }) => {
    const about = [`${count} frames`, accepted && `${accepted} accepted`, flagged && `${flagged} flagged`];
    return new Option(`${id} (${about.filter(Boolean).join(", ")})`, id);
  });
  if (document.activeElement !== $("trial")) {
    $("trial").replaceChildren(...options);
    $("trial").value = state.frame.trial_id;
  }
  $("timeline").replaceChildren(
    ...frames.map((frame) => {
      const button = document.createElement("button");
      button.dataset.measurement = frame.measurement_id;
      button.classList.toggle("here", frame.measurement_id === state.frame.measurement_id);
      button.classList.toggle("flag", frame.flagged);
      button.classList.toggle("saved", frame.accepted.length > 0);
      button.classList.toggle("half", frame.accepted.length === 1);
      button.title = [
        `frame ${frame.frame_index}`,
        frame.verdict,
        frame.flagged && "flagged",
        frame.residual_mm !== null && `poses up to ${frame.residual_mm.toFixed(2)} mm apart`,
        frame.accepted.length && `accepted: ${frame.accepted.join(", ")}`,
      ].filter(Boolean).join("; ");
      const residual = document.createElement("i");
      residual.className = "residual";
      residual.style.height = `${Math.round(26 * Math.min((frame.residual_mm ?? 0) / HIGH_MM, 1))}px`;
      const verdict = document.createElement("i");
      verdict.className = `verdict ${frame.verdict ?? ""}`;
      button.append(residual, verdict);
      button.addEventListener("click", () => {
        send({ do: "go to", measurement_id: frame.measurement_id });
        button.blur();
      });
      return button;
    }),
  );
  $("timeline").querySelector(".here")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
