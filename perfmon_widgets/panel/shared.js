// What the modules of the panel have in common; each of them is sent with this in front.

// A page that is loaded again makes all models anew, in any order.
async function find(manager, reference) {
  const name = reference.replace("IPY_MODEL_", "");
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      return await manager.get_model(name);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  return null;
}

// A number as short as metrics.py prints it.
function threeDigits(value) {
  return Math.abs(value) >= 9.95 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

// What this page knows of a panel, kept at the model of its link, which all its parts refer to.
function known(link) {
  link.perfmon ??= {
    page: Math.random().toString(16).slice(2),
    views: 0, // of any part of the panel
    wasLive: false, // connected to a kernel at any time since the page was loaded
    lost: false, // that kernel has gone
    waiting: 0, // changes that wait for the cell to end
  };
  return link.perfmon;
}

// One view more, until the function that comes back is called.
function attend(link) {
  known(link).views += 1;
  link.trigger("perfmon:views");
  return () => {
    known(link).views -= 1;
    link.trigger("perfmon:views");
  };
}
