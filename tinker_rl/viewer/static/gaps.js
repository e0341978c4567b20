/* Stretches of a timeline in which no process of the run was there: the axis leaves them out. Knows nothing of the page. */
((Tinker) => {
  "use strict";

  // Shares of the time that processes were there.
  const LONG = 0.1; // is left out
  const WIDTH = 0.04; // what is left of each,
  const WIDTHS = 0.3; // and of all of them

  const length = ({ from, to }) => to - from;

  /** From the end of what one process wrote down to the start of the next: [{from, to, ended}], where `ended` says that it was no kill; and the seconds of the rest. */
  function idle(timeline) {
    const found = [];
    let end = 0;
    let ended = false;
    timeline.start.forEach((start, i) => {
      const isMark = timeline.lanes[timeline.lane[i]] === "run";
      const isStart = isMark && timeline.names[timeline.name[i]] === "start";
      if (isStart && i && start > end) found.push({ from: end, to: start, ended });
      if (isMark) ended = !isStart;
      end = Math.max(end, start + timeline.seconds[i]);
    });
    return { found, ran: end - found.reduce((sum, gap) => sum + length(gap), 0) };
  }

  /**
   * The long ones, and where on the axis a moment is.
   * @returns {cuts: [{from, to (seconds), shown: [from, to] (on the axis), ended}], shown(seconds), real(place)}
   */
  function of(timeline) {
    const { found, ran } = idle(timeline);
    const long = found.filter((gap) => length(gap) > LONG * ran);
    const width = (ran || 1) * Math.min(WIDTH, WIDTHS / long.length);
    let removed = 0;
    const cuts = long.map((gap) => {
      const place = gap.from - removed;
      removed += length(gap) - width;
      return { ...gap, shown: [place, place + width] };
    });
    /** From one axis to the other, which run alike but in the cuts; `x` and `y` give the ends of a cut on each. */
    const along = (value, x, y) => {
      const cut = cuts.findLast((one) => x(one)[0] < value);
      if (!cut) return value;
      const [[x0, x1], [y0, y1]] = [x(cut), y(cut)];
      return value < x1 ? y0 + ((value - x0) * (y1 - y0)) / (x1 - x0) : y1 + value - x1;
    };
    const place = (cut) => cut.shown;
    const time = (cut) => [cut.from, cut.to];
    return { cuts, shown: (seconds) => along(seconds, time, place), real: (x) => along(x, place, time) };
  }

  Tinker.gaps = { of };
})(window.Tinker);
