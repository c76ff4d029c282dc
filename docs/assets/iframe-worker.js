// Browsers start no Worker for a page that is opened from a folder. There the search's script runs in a hidden frame of the page instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.early = []; // messages before the script has run
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html>";
      frame.onload = () => this.start(frame, new URL(url, location.href).href);
      document.body.appendChild(frame);
    }

    start(frame, url) {
      this.scope = frame.contentWindow;
      this.scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      script.src = url;
      script.onload = () => {
        while (this.early.length) this.deliver(this.early.shift()); // an answer may be answered by another message
        this.early = null;
      };
      frame.contentDocument.head.appendChild(script);
    }

    postMessage(data) {
      if (this.early) this.early.push(data);
      else this.deliver(data);
    }

    deliver(data) {
      this.scope.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
