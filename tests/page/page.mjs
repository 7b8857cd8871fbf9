// The pages of a repository in a real browser: what people do with them, on a phone and at a desk, in the
// light and in the dark, and what hostile texts do in them, which is nothing.
//
// Makes a repository with the program that $PUBLISH_BIN names, has it served, and looks at it. Screenshots
// go to the folder that $PAGE_SHOTS names, if it names one.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { HtmlValidate } from 'html-validate';
import { chromium } from 'playwright-core';

const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const program = process.env.PUBLISH_BIN;
const shots = process.env.PAGE_SHOTS;
const MANY = 500;

// What a description must not be able to do.
const HOSTILE = {
  script: '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">',
  quotes: `"><svg onload="document.title='owned'">'\``,
  closing: '</script></style></td></table>]]>--><!-- {{ 7*7 }} {% raw %}',
  turned: '\u202eevil\u2066 שלום عليكم \u0007\u001b[31m',
  long: 'x'.repeat(10_000),
  url: 'javascript:document.title="owned"',
};

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'publish-page-'));
const running = [];

function run(cwd, ...args) {
  return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function write(file, text) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text);
}

// A component that follows a folder, and whose files say what is in it.
function component(root, name, description, more = '') {
  write(path.join(root, 'components', `${name}.toml`), `description = ${JSON.stringify(description)}
${more}
[source.directory]
path = "${name}-releases"
match = "${name}-{version}"
[[asset]]
name = "${name}-{version}"
[asset.files]
"usr/bin/${name}" = "${name}-{version}"
`);
}

function release(root, name, version, size = 1000) {
  // Bytes that do not shrink, so that sizes differ.
  let state = size;
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[at] = state >>> 16;
  }
  write(path.join(root, 'components', `${name}-releases`, `${name}-${version}`), bytes);
}

// A repository as people have one, and some that no friend wrote.
function repository(root) {
  write(path.join(root, 'publish.toml'), `[repository]
url = "https://files.example.com/"
[signing]
key = { file = "signing.key" }
best-before = "14d"
`);
  component(root, 'tailscale', 'Tailscale: the node agent and its command line',
    'homepage = "https://tailscale.com/"\npath = "net/ts"\n[services]\nenable = ["tailscaled.service"]\n[files]\n"usr/lib/systemd/system/tailscaled.service" = { text = "[Service]\\nExecStart=/usr/bin/tailscale\\n" }\n"usr/share/tailscale/{version}" = { text = "{version}" }\n');
  component(root, 'btop', 'A monitor of resources: processors, memory, disks, network and processes');
  component(root, 'kubernetes', 'Kubernetes: kubeadm, kubectl and kubelet', '[versions]\nper = "minor"\nnewest = 2\n');
  for (const [name, text] of Object.entries(HOSTILE)) { component(root, `evil-${name}`, text); }
  run(root, 'key', 'generate');
  const versions = ['1.86.2', '1.88.1', '1.90.0', '1.90.9'];
  for (const [number, version] of versions.entries()) {
    release(root, 'tailscale', version, 60_000 + 9_000 * number);
    release(root, 'btop', `1.4.${number}`, 20_000 - 1_000 * number);
    release(root, 'kubernetes', `1.3${number}.1`, 90_000 + 500 * number);
    for (const name of Object.keys(HOSTILE)) { release(root, `evil-${name}`, `1.${number}`); }
    run(root, 'sync');
  }
  run(root, 'yank', 'btop', '1.4.2', '--reason', HOSTILE.script);
}

async function serve(root) {
  const child = spawn(program, ['serve', '--listen', '127.0.0.1:0'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  running.push(child);
  let text = '';
  // Read to its end: a loop that is left closes the pipe under what is still to be printed.
  return new Promise((found, failed) => {
    child.stdout.on('data', (piece) => {
      text += piece;
      const at = text.match(/ at (http:\S+) /);
      if (at) { found(at[1]); }
    });
    child.stdout.on('end', () => failed(new Error(`it is not served: ${text}`)));
  });
}

// A page that may ask for itself and nothing else, and must say nothing on its console.
async function look(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const troubles = [];
  const asked = [];
  page.on('request', request => asked.push(request.url()));
  page.on('console', message => troubles.push(`console: ${message.text()}`));
  page.on('pageerror', error => troubles.push(`error: ${error.message}`));
  page.on('requestfailed', request => troubles.push(`failed: ${request.url()}`));
  page.on('dialog', dialog => { troubles.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  return { context, page, troubles, asked };
}

async function check(view, what) {
  assert.deepEqual(view.troubles, [], `${what}: it complained`);
  const own = new URL(view.page.url()).origin;
  const away = view.asked.filter(url => !url.startsWith('data:') && new URL(url).origin !== own);
  assert.deepEqual(away, [], `${what}: it asked others`);
  assert.notEqual(await view.page.title(), 'owned', `${what}: a text became a program`);
}

async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.map(node => `${node.html}\n      ${node.failureSummary}`).join('\n    ')}`);
  assert.deepEqual(told, [], `${what}: axe found something`);
}

async function fits(page, what) {
  const { wide, room } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, room: innerWidth }));
  assert.ok(wide <= room, `${what}: ${wide} px wide in ${room}`);
}

async function shoot(page, name) {
  if (shots) { await page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true }); }
}

const tests = {
  async 'pages are valid HTML'({ root }) {
    const validator = new HtmlValidate({ extends: ['html-validate:recommended'], rules: {
      // A matter of taste, and of what stays a table where it does not look like one.
      'no-redundant-role': 'off', 'prefer-native-element': 'off', 'long-title': 'off', 'valid-id': ['error', { relaxed: true }], 'no-inline-style': 'off',
      'attribute-boolean-style': 'off', 'no-trailing-whitespace': 'off', 'require-sri': 'off', 'void-style': 'off',
    } });
    for (const file of ['index.html', 'net/ts/tailscale.html', 'btop/btop.html', 'evil-closing/evil-closing.html']) {
      const report = await validator.validateFile(path.join(root, 'public', file));
      const told = report.results.flatMap(({ messages }) => messages.map(({ ruleId, message, line }) => `${file}:${line}: ${message} [${ruleId}]`));
      assert.deepEqual(told, []);
    }
  },

  async 'every page is accessible, fits a phone and is as wanted in the dark'({ browser, url }) {
    for (const colorScheme of ['light', 'dark']) {
      for (const [size, viewport] of [['desk', { width: 1280, height: 900 }], ['phone', { width: 360, height: 740 }]]) {
        const view = await look(browser, { colorScheme, viewport });
        const others = size === 'phone' ? ['evil-long/evil-long.html'] : ['btop/btop.html', 'kubernetes/kubernetes.html'];
        for (const at of ['', 'net/ts/tailscale.html', ...others]) {
          const what = `/${at} ${size} ${colorScheme}`;
          await view.page.goto(url + at);
          await fits(view.page, what);
          for (const details of await view.page.locator('details').all()) { await details.evaluate(it => { it.open = true; }); }
          await fits(view.page, what);
          await accessible(view.page, what);
          await check(view, what);
          const ground = await view.page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number));
          assert.equal(Math.max(...ground) < 128, colorScheme === 'dark', what);
          await view.page.reload();
          await shoot(view.page, `${at.replace(/.*\//, '').replace('.html', '') || 'index'}-${size}-${colorScheme}`);
        }
        await view.context.close();
      }
    }
  },

  async 'a search finds, is told, and can be sent to somebody'({ browser, url }) {
    const view = await look(browser);
    const { page } = view;
    await page.goto(url);
    const rows = page.locator('[data-row]:visible');
    assert.equal(await rows.count(), 9);
    await page.keyboard.press('/');
    await page.keyboard.type('node AGENT');
    assert.equal(await rows.count(), 1);
    assert.equal(await page.locator('#found').textContent(), '1 of 9');
    assert.match(page.url(), /#q=node\+AGENT$/);
    await shoot(page, 'search');
    const second = await look(browser);
    await second.page.goto(page.url());
    assert.equal(await second.page.locator('[data-row]:visible').count(), 1);
    assert.equal(await second.page.locator('#search').inputValue(), 'node AGENT');
    await second.page.evaluate(() => { location.hash = 'q=%3Cscript%3E'; });
    await second.page.waitForFunction(() => document.getElementById('search').value === '<script>');
    await check(second, 'a hostile link');
    await page.keyboard.press('Escape');
    assert.equal(await rows.count(), 9);
    assert.doesNotMatch(page.url(), /#/);
    await page.keyboard.type('nothing like it');
    assert.equal(await rows.count(), 0);
    assert.ok(await page.locator('#none').isVisible());
    await page.keyboard.press('Escape');
    await page.keyboard.type('tailscale');
    await page.keyboard.press('ArrowDown');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'tailscale');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Enter');
    await page.waitForURL('**/net/ts/tailscale.html');
    await check(view, 'search');
  },

  async 'a button copies what it says'({ browser, url }) {
    const view = await look(browser, { permissions: ['clipboard-read', 'clipboard-write'] });
    const { page } = view;
    await page.goto(`${url}net/ts/tailscale.html`);
    const buttons = page.locator('button[data-copy]:visible');
    const button = page.getByRole('button', { name: 'Copy tailscale.transfer' });
    await button.focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('said').textContent === 'Copied tailscale.transfer');
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    const served = await (await fetch(`${url}net/ts/tailscale.transfer`)).text();
    assert.equal(copied, served);
    assert.ok(await buttons.count() >= 3);
    await page.getByRole('button', { name: 'Copy the commands' }).click();
    await page.waitForFunction(() => document.getElementById('said').textContent === 'Copied the commands');
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^curl -fO https:\/\/files\.example\.com\/net\/ts\/tailscale\.sh\nsudo sh tailscale\.sh\n$/);
    await check(view, 'copy');
  },

  async 'a file in a folder does all the same'({ browser, root }) {
    const view = await look(browser);
    const { page } = view;
    await page.goto(`${pathToFileURL(path.join(root, 'public/index.html'))}#q=tailscale`);
    assert.equal(await page.locator('[data-row]:visible').count(), 1);
    await page.locator('#search').fill('btop');
    assert.equal(await page.locator('[data-row]:visible').count(), 1);
    await page.locator('[data-row]:visible a').click();
    await page.waitForURL('**/btop/btop.html');
    await page.getByRole('button', { name: 'Copy btop.transfer' }).click();
    await page.waitForFunction(() => document.getElementById('said').textContent.startsWith('Copied'));
    await page.getByRole('link', { name: 'All components' }).click();
    await page.waitForURL('**/index.html');
    await check(view, 'file');
  },

  async 'without scripts there is no search, and all the rest'({ browser, url }) {
    const view = await look(browser, { javaScriptEnabled: false });
    await view.page.goto(url);
    assert.ok(!(await view.page.locator('#search').isVisible()));
    assert.equal(await view.page.locator('[data-row]:visible').count(), 9);
    await view.page.goto(`${url}net/ts/tailscale.html`);
    assert.equal(await view.page.locator('button:visible').count(), 0);
    assert.ok(await view.page.getByText('Verify=yes').first().isVisible());
  },

  async 'what got through would not run'({ browser, url }) {
    const { page } = await look(browser);
    for (const at of ['', 'btop/btop.html']) {
      await page.goto(url + at);
      await page.evaluate(() => {
        const script = document.createElement('script');
        script.textContent = 'document.title = "owned"';
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<img src="/x.png" onerror="document.title = `owned`"><a id="link" href="javascript:document.title=\'owned\'">x</a>');
        document.getElementById('link').click();
      });
      await page.waitForFunction(() => document.querySelector('img').complete);
      assert.notEqual(await page.title(), 'owned');
    }
  },

  async 'the feed is one'({ browser, url }) {
    const { page } = await look(browser);
    await page.goto(url);
    const served = await (await fetch(`${url}feed.xml`)).text();
    const feed = await page.evaluate(text => {
      const xml = new DOMParser().parseFromString(text, 'application/xml');
      const all = (at, name) => [...at.getElementsByTagNameNS('http://www.w3.org/2005/Atom', name)];
      return {
        broken: xml.querySelector('parsererror')?.textContent,
        scripts: xml.querySelectorAll('script').length,
        ids: all(xml, 'id').map(id => id.textContent),
        entries: all(xml, 'entry').map(entry => ({
          summary: all(entry, 'summary')[0].textContent, published: all(entry, 'published')[0].textContent,
        })),
      };
    }, served);
    assert.equal(feed.broken, undefined);
    assert.equal(feed.scripts, 0);
    assert.equal(new Set(feed.ids).size, feed.ids.length);
    assert.ok(feed.ids.includes('https://files.example.com/net/ts/tailscale.html#v1.90.9'));
    const times = feed.entries.map(entry => entry.published);
    assert.deepEqual(times, [...times].sort().reverse());
    assert.ok(feed.entries.some(entry => entry.summary.includes('<script>')), 'it is text');
  },

  async [`a page of ${MANY} components opens at once`]({ browser }) {
    const root = path.join(folder, 'many');
    write(path.join(root, 'publish.toml'), '[repository]\nurl = "https://files.example.com/"\n');
    for (let number = 0; number < MANY; number++) {
      write(path.join(root, 'components', `tool-${number}.toml`), `description = "Number ${number}: ${HOSTILE.closing.replaceAll('"', '')}"
[source.directory]
path = "../releases"
match = "all-{version}"
[files]
"usr/share/tool-${number}" = { text = "{version}" }
`);
    }
    write(path.join(root, 'releases/all-1.0'), '1.0');
    run(root, 'sync');
    const url = await serve(root);
    const view = await look(browser);
    await view.page.goto(url);
    assert.equal(await view.page.locator('[data-row]').count(), MANY);
    const took = await view.page.evaluate(() => {
      const { domContentLoadedEventEnd, loadEventEnd } = performance.getEntriesByType('navigation')[0];
      const begun = performance.now();
      const search = document.getElementById('search');
      search.value = '499';
      search.dispatchEvent(new Event('input'));
      document.body.getBoundingClientRect();
      return { loaded: domContentLoadedEventEnd, complete: loadEventEnd, search: performance.now() - begun };
    });
    const bytes = fs.statSync(path.join(root, 'public/index.html')).size;
    console.log(`    ${MANY} components: ${Math.round(bytes / 1024)} KiB, DOMContentLoaded after ${took.loaded.toFixed(0)} ms, all after ${took.complete.toFixed(0)} ms, a search in ${took.search.toFixed(1)} ms`);
    assert.equal(await view.page.locator('[data-row]:visible').count(), 1);
    await check(view, 'many');
    const phone = await look(browser, { viewport: { width: 360, height: 740 } });
    await phone.page.goto(url);
    await fits(phone.page, 'many on a phone');
  },
};

let failed = 0;
let browser;
try {
  if (shots) { fs.mkdirSync(shots, { recursive: true }); }
  const root = path.join(folder, 'some');
  repository(root);
  const url = await serve(root);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // In a container there is no sandbox to be had, and all that is opened is ours.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
  for (const [name, test] of Object.entries(tests)) {
    if (process.argv[2] && !name.includes(process.argv[2])) { continue; }
    try {
      await test({ browser, root, url });
      console.log(`ok   ${name}`);
    } catch (error) {
      failed++;
      console.log(`FAIL ${name}\n${error.stderr ?? ''}${error.stack}`);
    }
  }
} finally {
  await browser?.close();
  running.forEach(child => child.kill());
  fs.rmSync(folder, { recursive: true, force: true });
}
console.log(failed ? `${failed} failed` : `${Object.keys(tests).length} tests passed`);
process.exit(failed ? 1 : 0);
