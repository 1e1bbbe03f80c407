"""Tables of predictions -> scores, intervals, attacks, report card. No model is known here."""
