'use strict';
(() => {
  // Search: each word must be somewhere in a component's row.
  const box = document.getElementById('search');
  if (box) {
    const rows = [...document.querySelectorAll('[data-row]')].map(row => [row, row.textContent.toLowerCase()]);
    const found = document.getElementById('found');
    const none = document.getElementById('none');
    const noneOf = document.getElementById('none-of');
    const show = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const [row, text] of rows) {
        const fits = words.every(word => text.includes(word));
        row.hidden = !fits;
        count += fits;
      }
      found.textContent = words.length ? `${count} of ${rows.length}` : '';
      none.hidden = count > 0 || !words.length;
      noneOf.textContent = box.value;
    };
    const asked = () => {
      const query = new URLSearchParams(location.hash.slice(1)).get('q');
      if (query !== null && query !== box.value) { box.value = query; }
      show();
    };
    box.parentElement.hidden = false;
    box.addEventListener('input', () => {
      show();
      const hash = box.value ? '#' + new URLSearchParams({ q: box.value }) : ' ';
      try { history.replaceState(null, '', hash.trim() || location.pathname + location.search); } catch { /* some browsers do not, of a file */ }
    });
    addEventListener('hashchange', asked);
    addEventListener('keydown', event => {
      if (event.ctrlKey || event.metaKey || event.altKey) { return; }
      const links = rows.filter(([row]) => !row.hidden).map(([row]) => row.querySelector('a'));
      const at = links.indexOf(document.activeElement);
      const typing = document.activeElement === box;
      if (event.key === '/' && !typing) { box.focus(); box.select(); }
      else if (event.key === 'Escape' && typing && box.value) { box.value = ''; box.dispatchEvent(new Event('input')); }
      else if (event.key === 'Enter' && typing && box.value.trim()) { links[0]?.click(); }
      else if (event.key === 'ArrowDown' && (typing || at >= 0)) { links[Math.min(at + 1, links.length - 1)]?.focus(); }
      else if (event.key === 'ArrowUp' && at >= 0) { (at ? links[at - 1] : box).focus(); }
      else { return; }
      event.preventDefault();
    });
    asked();
  }

  // Copy buttons: of a file or over plain HTTP there is no clipboard, but an older way.
  const said = document.getElementById('said');
  const older = text => {
    const area = document.createElement('textarea');
    area.value = text;
    area.setAttribute('readonly', '');
    area.className = 'only-read';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  };
  for (const button of document.querySelectorAll('button[data-copy]')) {
    button.hidden = false;
    const label = button.textContent;
    button.addEventListener('click', async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      let done = true;
      try { await navigator.clipboard.writeText(text); } catch { done = older(text); }
      button.focus();
      button.textContent = done ? 'Copied' : 'Press Ctrl+C';
      said.textContent = done ? `Copied ${button.dataset.what}` : '';
      if (!done) { getSelection().selectAllChildren(document.getElementById(button.dataset.copy)); }
      setTimeout(() => { button.textContent = label; said.textContent = ''; }, 2500);
    });
  }

  // The page says days; how far away they are is for whoever looks.
  const words = typeof Intl === 'object' && Intl.RelativeTimeFormat ? new Intl.RelativeTimeFormat('en', { numeric: 'auto' }) : null;
  for (const time of document.querySelectorAll('time[datetime]')) {
    const days = (Date.parse(time.dateTime) - Date.now()) / 864e5;
    if (!words || Number.isNaN(days)) { continue; }
    const far = Math.abs(days);
    const told = far < 1 ? words.format(Math.trunc(days * 24), 'hour')
      : far < 60 ? words.format(Math.trunc(days), 'day')
      : far < 730 ? words.format(Math.trunc(days / 30.44), 'month') : words.format(Math.trunc(days / 365.25), 'year');
    const until = time.closest('[data-until]');
    if (!until) { time.title = `${time.title || time.textContent}, ${told}`; continue; }
    until.title = `Clients that check freshness refuse it from ${time.textContent} on`;
    if (days < 0) { until.classList.replace('good', 'bad'); until.textContent = `expired ${told}`; }
    else { until.textContent = `signed, good for ${far < 1 ? 'hours' : far < 2 ? 'a day' : `${Math.trunc(far)} days`}`; }
  }
})();
