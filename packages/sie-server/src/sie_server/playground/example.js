/** The examples that the page offers. */

/** @typedef {{ query: string, documents: string, long: string }} Example */

/** @type {readonly Example[]} */
export const EXAMPLES = [
  {
    query: "Why is the sky blue?",
    documents: [
      "Blue jeans are dyed with indigo, which was once made from plants.",
      "At sunset, light crosses more of the atmosphere, and mostly red is left of it.",
      "Molecules of air scatter short wavelengths, such as blue, far more than long ones. This blue light reaches us from all directions.",
      "Skylight windows bring daylight into rooms under the roof.",
      "Rayleigh scattering gives the sky its color: its strength grows with the fourth power of the frequency of the light.",
      "On Mars, dust makes the sky a yellowish brown by day, and blue around the setting sun.",
      "Painters of the Renaissance made their blue from lapis lazuli, which was dearer than gold.",
      "The sea looks blue mainly because water absorbs red light.",
    ].join("\n"),
    long: "truncate",
  },
  {
    query: "How long can I return a lamp?",
    documents: JSON.stringify(
      [
        {
          id: "delivery",
          text: "Orders placed before noon leave our warehouse on the same day. Small parcels arrive within two days, furniture within ten. You receive a message with the number of your parcel as soon as it is on its way.",
        },
        {
          id: "terms",
          text: [
            "These terms apply to all orders in our shop. By ordering, you accept them in the version of that day.",
            "Prices include taxes. Delivery is free from 50 euros; below that, it costs 4.90 euros. We deliver to all addresses in the European Union, to Norway and to Switzerland. Customs duties outside the Union are paid by the buyer.",
            "You may pay by card, by bank transfer, or on account. An invoice is due within 14 days. If it is not paid after two reminders, we may charge interest at the legal rate, and withhold further deliveries until the account is settled.",
            "The goods remain our property until they are paid in full. They may not be pledged or given as security before that time. If somebody else seizes them, you must tell us at once, so that we can defend our rights.",
            "Lamps and other electric goods can be returned within 60 days, in their box and with all parts. All other goods can be returned within 30 days. Send them to the address on the label in your parcel; we pay for the way back, and refund the price within a week after they arrive.",
            "Goods with a fault are repaired or replaced for two years. Please describe the fault, and enclose a copy of the invoice. Wear, and damage by wrong use, are not covered. For batteries, the time is six months.",
            "We keep your address and your orders for as long as the law requires, and pass them on to nobody but the carrier. You may ask at any time what we have stored about you, and have it corrected or deleted.",
            "The law of the place of our seat applies. If a part of these terms is void, the others remain in force.",
          ].join(" "),
        },
        {
          id: "care",
          text: "Dust a lamp with a dry cloth. Unplug it first, and let the bulb cool down for ten minutes.",
        },
      ],
      null,
      1,
    ),
    long: "chunk_max",
  },
];
