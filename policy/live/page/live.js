// The live page: takes the server's events, and puts what they say in its place.
// All HTML comes from the server, which has escaped it.
"use strict"
{
  const maxRows = 200, newsEvery = 5000, again = 2000, deaf = 15000
  const $ = (query, of = document) => of.querySelector(query)
  const all = (query, of = document) => [...of.querySelectorAll(query)]
  const data = document.body.dataset
  const parse = html => { const t = document.createElement("template"); t.innerHTML = html; return t.content }

  // morph makes the children of a those of b, and touches only what differs, so
  // that focus, selection and what is unfolded stay.
  const kept = new Set(["hidden", "open"])
  const morph = (a, b) => {
    const now = [...a.childNodes], next = [...b.childNodes]
    next.forEach((n, i) => now[i] ? renew(now[i], n) : a.append(n))
    now.slice(next.length).forEach(n => n.remove())
  }
  const renew = (a, b) => {
    if (a.isEqualNode(b)) return
    if (a.nodeName !== b.nodeName || a.nodeType !== Node.ELEMENT_NODE) return a.replaceWith(b)
    for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && !kept.has(name)) a.removeAttribute(name)
    for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value)
    morph(a, b)
  }

  // The verdict, for the title and for those who listen: not each number, but that
  // it changed, and not more often than one can hear.
  const news = $("#news")
  let heard = null, timer = 0
  const headline = () => {
    const h1 = $("h1")?.textContent.trim() ?? ""
    document.title = (document.body.classList.contains("stale") ? "No connection: was " : "") + h1 + " – egressaudit"
    const bad = all(".counts .blocked, .counts .partial, .counts .unlisted").map(n => $("b", n).textContent + " " + n.classList[0]).join(", ")
    return h1.replace(/^\W+/, "") + ": " + bad
  }
  const announce = () => {
    const now = headline()
    if (heard === null) heard = now
    if (now === heard || timer) return
    timer = setTimeout(() => { timer = 0; news.textContent = heard = headline() }, newsEvery)
  }

  // The filter.
  const form = $("#filter")
  const filter = () => {
    const { status, scope, text } = Object.fromEntries([...new FormData(form)].map(([k, v]) => [k, v.trim().toLowerCase()]))
    const list = all("[data-part=endpoints] .endpoint, [data-part=unlisted] .endpoint")
    let shown = 0
    for (const e of list) {
      const need = e.closest(".requirement")
      const fits = (!status || (status === "unlisted" ? !need : e.classList.contains(status))) &&
        (!scope || need?.dataset.scope.toLowerCase() === scope) &&
        (!text || ((need ? $("h4", need).textContent : "") + " " + e.textContent).toLowerCase().includes(text))
      if (e.hidden === fits) e.hidden = !fits
      shown += fits
    }
    for (const box of all(".requirement, .catalog, [data-part=unlisted] > section")) {
      const empty = !$(".endpoint:not([hidden])", box)
      if (box.hidden !== empty) box.hidden = empty
    }
    $("#none").hidden = shown > 0 || list.length === 0
    const says = status || scope || text ? `${shown} of ${list.length} shown` : ""
    if ($("#matches").textContent !== says) $("#matches").textContent = says
    form.classList.toggle("on", says !== "") // who prints a part sees that it is one
  }
  const scopes = () => {
    const select = form.elements.scope, there = new Set([...select.options].map(o => o.value))
    for (const s of new Set(all(".requirement").map(r => r.dataset.scope))) if (!there.has(s)) select.add(new Option(s))
  }

  // The stream. While it is paused, what comes waits in a fragment of its own.
  const stream = $("#stream"), pause = $("#pause"), held = document.createElement("ol")
  let missed = 0
  const add = (list, rows) => {
    list.prepend(rows)
    while (list.childElementCount > maxRows) list.lastChild.remove() // the blanks between them, too
  }
  const paused = () => pause.getAttribute("aria-pressed") === "true"
  pause.onclick = () => {
    pause.setAttribute("aria-pressed", String(!paused()))
    pause.textContent = paused() ? "Go on" : "Pause"
    if (paused()) return
    const rows = document.createDocumentFragment()
    rows.append(...held.childNodes)
    add(stream, rows)
    missed = 0
    $("#waiting").textContent = ""
  }

  // The connection. What stands on the page is as of the last event: where none
  // comes, not even a sign of life, it says so, for a verdict may have turned.
  let source = null, last = Date.now(), tried = performance.now() // when an event came; when one came, or was asked for, whatever the clock is set to
  const mood = (state, text) => {
    const p = $("#state"), stale = $("#stale"), lost = state === "lost"
    if (p.dataset.state !== state) p.dataset.state = state
    if (p.textContent !== text) p.textContent = text
    if (stale.hidden !== lost) return
    stale.textContent = lost ? `Nothing was heard since ${new Date(last).toISOString().slice(11, 19)} UTC: this is how it stood then.` : ""
    stale.hidden = !lost
    document.body.classList.toggle("stale", lost)
    headline()
  }
  const lose = () => { if ($("#state").dataset.state !== "ended") mood("lost", "no connection: trying again") }
  const on = {
    hello: h => {
      if (h.edition !== data.edition) return location.reload()
      data.token = h.token
    },
    state: s => mood(s.state, s.text),
    alive: () => {},
    bye: s => mood(s.state, s.text),
    report: parts => {
      for (const [name, html] of Object.entries(parts)) {
        const part = $(`[data-part="${name}"]`)
        if (part) morph(part, parse(html))
      }
      scopes()
      filter()
      announce()
    },
    rows: r => {
      if (r.reset) { stream.replaceChildren(); held.replaceChildren() }
      add(paused() ? held : stream, parse(r.html))
      if (!paused()) return
      missed += r.rows + r.left
      $("#waiting").textContent = `${missed} new`
    },
  }
  const connect = () => {
    source?.close()
    const now = source = new EventSource("api/events?after=" + encodeURIComponent(data.last))
    tried = performance.now()
    for (const [name, take] of Object.entries(on)) now.addEventListener(name, e => {
      last = Date.now()
      tried = performance.now()
      if (e.lastEventId) data.last = e.lastEventId
      take(JSON.parse(e.data))
    })
    now.onerror = async () => {
      lose()
      if (now.readyState !== EventSource.CLOSED) return // it tries by itself
      const page = await fetch("./", { method: "HEAD" }).catch(() => null)
      if (page?.status === 401) return location.reload() // to log in
      setTimeout(() => { if (now === source) connect() }, again)
    }
  }
  setInterval(() => {
    if (performance.now() - tried < deaf) return
    lose()
    connect()
  }, 1000)

  // A phase.
  const mark = $("#mark")
  mark.onsubmit = async e => {
    e.preventDefault()
    const text = mark.elements.phase.value.trim()
    const answer = await fetch("api/mark", { method: "POST", body: text, headers: { "Egressaudit-Page": data.token, "Content-Type": "text/plain; charset=utf-8" } }).catch(() => null)
    $("#marked").textContent = answer?.ok ? `“${text}” begins.` : "Not marked: " + (answer ? await answer.text() : "nothing answers.")
    if (answer?.ok) mark.reset()
  }

  document.addEventListener("keydown", e => { if (e.key === "Escape") all(".menu[open]").forEach(m => { m.open = false; $("summary", m).focus() }) })
  document.addEventListener("click", e => all(".menu[open]").forEach(m => { if (!m.contains(e.target) || e.target.closest("a")) m.open = false }))
  document.addEventListener("click", e => {
    const to = e.target.closest("main a[href^='#']")
    if (to && document.getElementById(to.hash.slice(1))?.closest("[hidden]")) { form.reset(); filter() }
  })
  form.onsubmit = e => e.preventDefault()
  form.oninput = filter
  form.onreset = () => setTimeout(filter) // when the fields are empty
  for (const e of [form, mark, pause]) e.hidden = false
  scopes()
  filter()
  announce()
  connect()
}
